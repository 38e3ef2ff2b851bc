"""Writes adf.json, the reference values of adf_test.go: /usr/bin/python3 adf.py > adf.json

Made with statsmodels 0.13.5 and numpy 1.24.2 (Debian 12: python3-statsmodels). The series are drawn here, with few digits so
that the file says exactly what was tested; "sunspots" are the yearly numbers 1700 to 2008 that statsmodels carries (SIDC).
"""
import json

import numpy as np
import statsmodels.api as sm
from statsmodels.tsa.stattools import adfuller

rng = np.random.default_rng(20261122)
walk = np.round(100 + np.cumsum(rng.normal(size=300)), 6)
price = np.round(60000 * np.exp(np.cumsum(2e-4 * rng.normal(size=1200))), 2)
ar = np.zeros(250)
for i in range(1, 250):
    ar[i] = 0.7 * ar[i - 1] + rng.normal()
ar2 = np.zeros(400)
for i in range(2, 400):
    ar2[i] = 0.9 * ar2[i - 1] - 0.5 * ar2[i - 2] + 0.3 * ar2[i - 3] + rng.normal()
series = {
    "random walk": walk,
    "price": price,
    "autoregression": np.round(ar, 6),
    "third order": np.round(ar2, 6),
    "white noise": np.round(rng.normal(size=120), 6),
    "explosive": np.round(1.02 ** np.arange(150) * 10 + rng.normal(size=150), 6),
    "short": np.round(rng.normal(size=12).cumsum(), 6),
    "sunspots": sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(),
}
out = []
for name, x in series.items():
    tests = []
    for lags in (None, 0, 1, 3):
        kw = {"autolag": "AIC"} if lags is None else {"maxlag": lags, "autolag": None}
        stat, p, used, n, crit = adfuller(x, regression="c", **kw)[:5]
        tests.append({"lags": lags, "statistic": stat, "p": p, "used": int(used), "n": int(n),
                      "critical": [crit["1%"], crit["5%"], crit["10%"]]})
    out.append({"name": name, "x": x.tolist(), "adf": tests})
print("[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]")
