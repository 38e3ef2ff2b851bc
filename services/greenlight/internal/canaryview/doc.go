// Package canaryview shows canaries: live on a terminal, as lines in a pipe, and afterwards as a table and a figure.
package canaryview
