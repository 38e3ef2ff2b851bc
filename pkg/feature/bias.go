package feature

// Bias is the feature that is always 1. A state by name may leave it out.
const Bias = "bias"
