# Writes delong.json, the reference values of delong_test.go: Rscript delong.R > delong.json
# Made with R 4.2.2 and pROC 1.18.0 (Debian 12: r-cran-proc).
#
# asah is the data set of pROC: 113 patients with an aneurysmal subarachnoid haemorrhage, of N. Turck et al. (2010),
# Intensive Care Medicine 36, 107-115. The others are drawn here.
suppressMessages(library(pROC))
num <- function(x) paste0("[", paste(sprintf("%.17g", x), collapse = ","), "]")
data <- function(x) paste0("[", paste(sprintf("%.15g", x), collapse = ","), "]")
bool <- function(x) paste0("[", paste(ifelse(x, "true", "false"), collapse = ","), "]")
case <- function(name, y, a, b) {
  ra <- roc(y, a, levels = c(FALSE, TRUE), direction = "<", quiet = TRUE)
  rb <- roc(y, b, levels = c(FALSE, TRUE), direction = "<", quiet = TRUE)
  ci <- ci.auc(ra, conf.level = 0.95, method = "delong")
  ci90 <- ci.auc(rb, conf.level = 0.90, method = "delong")
  t <- roc.test(ra, rb, method = "delong", paired = TRUE, conf.level = 0.95)
  sprintf(paste0('  {"name":"%s",\n   "labels":%s,\n   "a":%s,\n   "b":%s,\n   "auc":%s,"variance":%s,"covariance":%.17g,\n',
    '   "a_95":%s,"b_90":%s,\n   "z":%.17g,"p":%.17g,"difference_95":%s}'),
    name, bool(y), data(a), data(b), num(c(auc(ra), auc(rb))), num(c(var(ra), var(rb))), cov(ra, rb),
    num(ci[c(1, 3)]), num(ci90[c(1, 3)]), t$statistic, t$p.value, num(t$conf.int))
}
utils::data(aSAH)
y <- aSAH$outcome == "Poor"
w <- as.numeric(as.character(aSAH$wfns))
set.seed(20261122)
n <- 160
u <- runif(n) < 0.28
x1 <- round(0.9 * u + rnorm(n), 6); x2 <- round(0.5 * x1 + 0.3 * u + rnorm(n), 6)
v <- runif(120) < 0.5
t1 <- floor(3 * (0.6 * v + runif(120))); t2 <- floor(4 * (0.3 * v + runif(120)))
few <- c(TRUE, TRUE, rep(FALSE, 40))
cat("[\n", paste(c(
  case("asah s100b against wfns", y, aSAH$s100b, w),
  case("asah ndka against s100b", y, aSAH$ndka, aSAH$s100b),
  case("drawn, no ties", u, x1, x2),
  case("drawn, mostly ties", v, t1, t2),
  case("two positives", few, c(3.5, 0.2, round(rnorm(40), 6)), c(1.1, 1.2, round(rnorm(40), 6)))
), collapse = ",\n"), "\n]\n", sep = "")
