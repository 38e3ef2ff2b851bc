#!/usr/bin/env python3
"""Makes rolling.json: features of a random walk, each computed over its window with numpy, and RSI by Wilder's recursion.

J. W. Wilder (1978), "New Concepts in Technical Trading Systems": first averages are plain means of 14 changes, then
(13 avg + x) / 14. Windows hold the last n minutes; the standard deviation is that of the population.
"""
import json
import numpy as np

rng = np.random.default_rng(20261122)
n = 1600
price = np.round(100 * np.exp(np.cumsum(rng.standard_t(4, n) * 5e-4)), 3)
r1 = np.r_[np.nan, 1e4 * np.log(price[1:] / price[:-1])]

rsi = np.full(n, np.nan)
change = np.diff(price)
gain, loss = change[:14].clip(0).mean(), (-change[:14]).clip(0).mean()
for i in range(14, n):
    if i > 14:
        x = change[i - 1]
        gain, loss = (13 * gain + max(x, 0)) / 14, (13 * loss + max(-x, 0)) / 14
    rsi[i] = 50 if gain == loss == 0 else 100 if loss == 0 else 100 - 100 / (1 + gain / loss)


def window(values, i, size, least):
    w = values[max(0, i - size + 1):i + 1]
    w = w[~np.isnan(w)]
    return w if len(w) >= least else None


def z(values, i):
    w = window(values, i, 1440, 720)
    return None if w is None else float((values[i] - w.mean()) / w.std())


rows = []
for i in sorted({13, 14, 15, 29, 30, 31, 59, 60, 61, 718, 719, 720, 733, 734, 1439, 1440, 1441, *range(100, n, 150), n - 1}):
    w = window(r1, i, 60, 30)
    rows.append({
        "i": i,
        "rsi14": None if np.isnan(rsi[i]) else float(rsi[i]),
        "vol1m": None if w is None else float(np.sqrt(np.mean(w**2))),
        "mid_logret_5m": float(r1[i - 4:i + 1].sum()),
        "rsi14_z": z(rsi, i),
        "zscore_mid_24h": z(price, i),
    })
json.dump({"origin": f"rolling.py with numpy {np.__version__}", "price": price.tolist(), "rows": rows}, open("rolling.json", "w"))
