# Writes ess.json, the reference values of autocorrelation_test.go: Rscript ess.R > ess.json
# Made with R 4.2.2, mcmc 0.9.7 (Debian 12: r-cran-mcmc), the package of C. J. Geyer himself: initseq() is the initial
# monotone sequence estimator; the effective size is n gamma(0) / var.dec.
suppressMessages(library(mcmc))
set.seed(20261122)
ar <- function(n, phi) round(as.numeric(arima.sim(list(ar = phi), n)), 5)
case <- function(name, x) {
  s <- initseq(x)
  sprintf('{"name":"%s","x":[%s],"ess":%.17g}', name, paste(sprintf("%.15g", x), collapse = ","), length(x) * s$gamma0 / s$var.dec)
}
cat("[\n", paste(c(
  case("persistent", ar(500, 0.9)), case("mild", ar(301, 0.5)), case("independent", round(rnorm(200), 5)),
  case("alternating", ar(200, -0.5)), case("second order", ar(400, c(0.5, 0.3)))
), collapse = ",\n"), "\n]\n", sep = "")
cat(R.version.string, "\n", file = stderr())
