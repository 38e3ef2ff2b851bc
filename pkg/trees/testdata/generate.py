#!/usr/bin/env python3
"""Makes the test vectors of this folder: models as the libraries save them, and what the libraries predict.

    generate.py simulated.csv

The argument has the features of schema v1.8.1 and the label y of a simulated market, a row per minute. Each
<model>.csv has one row per input vector: the features, then the library's raw score, then its prediction.
"""
import csv
import sys

import lightgbm as lgb
import numpy as np
import xgboost as xgb

rng = np.random.default_rng(20250106)


def number(v):
    return "nan" if np.isnan(v) else repr(float(v))


def write_rows(name, features, rows, raw, score):
    with open(name + ".csv", "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(list(features) + ["raw", "score"])
        for x, r, s in zip(rows, raw, score):
            w.writerow([number(v) for v in x] + [number(r), number(s)])


def edges(rows, thresholds, width):
    """Rows at thresholds, and just next to them."""
    out = []
    for i, (feature, t) in enumerate(thresholds[:12]):
        for v in width(t):
            x = rows[i % len(rows)].copy()
            x[feature] = v
            out.append(x)
    return out


def save_lightgbm(name, params, x, y, features, rows, trees=8, **kw):
    p = dict(verbose=-1, num_threads=1, seed=7, deterministic=True, num_leaves=8, min_data_in_leaf=5, **params)
    b = lgb.train(p, lgb.Dataset(x, y, feature_name=list(features), free_raw_data=False, **kw), trees)
    text = b.model_to_string()
    text = text[: text.index("\nparameters:")] + "\n"
    with open(name + ".txt", "w") as f:
        f.write(text)
    feature, splits = None, []
    for line in text.splitlines():
        if line.startswith("num_cat="):
            numeric = line == "num_cat=0"
        if line.startswith("split_feature="):
            feature = [int(v) for v in line.split("=")[1].split()]
        if line.startswith("threshold=") and numeric:
            splits += list(zip(feature, [float(v) for v in line.split("=")[1].split()]))
    rows = np.array(list(rows) + edges(rows, splits, lambda t: (t, np.nextafter(t, np.inf), np.nextafter(t, -np.inf))))
    write_rows(name, features, rows, b.predict(rows, raw_score=True), b.predict(rows))
    return b


def save_xgboost(name, params, x, y, features, rows, trees=8, types=None):
    p = dict(dict(objective="binary:logistic", max_depth=3, nthread=1, seed=7), **params)
    train = xgb.DMatrix(x, y, feature_names=features, feature_types=types, enable_categorical=True)
    b = xgb.train(p, train, trees)
    b.save_model(name + ".json")
    import json
    splits = []
    booster = json.load(open(name + ".json"))["learner"]["gradient_booster"]
    for t in booster.get("gbtree", booster)["model"]["trees"]:
        for left, f, c, kind in zip(t["left_children"], t["split_indices"], t["split_conditions"], t["split_type"]):
            if left >= 0 and kind == 0:
                splits.append((f, np.float32(c)))

    def around(t):
        below = np.nextafter(t, np.float32(-np.inf))
        middle = (float(t) + float(below)) / 2
        return float(t), float(below), middle, np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf)

    rows = np.array(list(rows) + edges(rows, splits, around))
    d = xgb.DMatrix(rows, feature_names=features, feature_types=types, enable_categorical=True)
    write_rows(name, features or [f"f{i}" for i in range(x.shape[1])], rows, b.predict(d, output_margin=True), b.predict(d))
    return b


def save_early(name, features=("a", "b", "c"), **params):
    """A classifier that stopped early: predict_proba uses the trees up to best_iteration, and the file has all."""
    draw = np.random.default_rng(13)
    x = draw.normal(size=(300, 3))
    y = (x[:, 0] + draw.normal(size=300) * 2 > 0).astype(int)
    m = xgb.XGBClassifier(max_depth=2, learning_rate=0.4, early_stopping_rounds=3, n_jobs=1, random_state=7, **params)
    m.fit(x[:150], y[:150], eval_set=[(x[150:], y[150:])], verbose=False)
    b = m.get_booster()
    b.feature_names = list(features)
    m.save_model(name + ".json")
    rows = x[:20]
    write_rows(name, features, rows, m.predict(rows, output_margin=True), m.predict_proba(rows)[:, 1])
    print(name, "best_iteration", m.best_iteration, "of", b.num_boosted_rounds())


def save_own():
    """A model with feature names of its own, as JSON and as UBJSON."""
    draw = np.random.default_rng(29)
    names = ["imb5", "microprice_dev", "funding_bp", "oi_chg", "queue_ratio"]
    x = draw.normal(size=(2000, 5))
    x[:, 2] = np.where(draw.random(2000) < 0.2, np.nan, x[:, 2])
    y = (1.2 * x[:, 3] + 1.8 * x[:, 4] + draw.normal(size=2000) > 0.5).astype(float)
    b = save_xgboost("xgboost_own", dict(tree_method="hist", eta=0.4), x, y, names, x[:60])
    b.save_model("xgboost_own.ubj")


def main():
    with open(sys.argv[1]) as f:
        names = f.readline().strip().split(",")[:-1]
        table = np.loadtxt(f, delimiter=",")
    x, y = table[:, :-1], table[:, -1]
    rows = x[:: len(x) // 50][:50]
    save_lightgbm("lightgbm_market", dict(objective="binary", learning_rate=0.3), x, y, names, rows)
    save_xgboost("xgboost_market", dict(eta=0.3, tree_method="hist"), x, y, names, rows)

    # A table with all that is awkward: missing values, zeros, tiny numbers, categories.
    n = 3000
    x = rng.normal(size=(n, 5))
    x[:, 1] = np.where(rng.random(n) < 0.4, 0.0, x[:, 1])
    x[:, 2] = np.where(rng.random(n) < 0.2, np.nan, x[:, 2])
    x[:, 3] = rng.integers(0, 40, n)
    x[:, 4] = rng.integers(0, 3, n)
    z = x[:, 0] + np.where(x[:, 1] == 0, 1.0, x[:, 1]) + np.where(np.isnan(x[:, 2]), 1.5, x[:, 2])
    y = (z + np.where(x[:, 3] % 3 == 1, 1.5, -0.5) + 0.8 * (x[:, 4] == 1) + rng.normal(size=n) > 1).astype(float)
    names = ["a", "zeros", "gaps", "cat40", "cat3"]
    rows = x[:24].copy()
    odd = [np.nan, 0.0, -0.0, 1e-35, -1e-35, float(np.float32(1e-35)), -float(np.float32(1e-35)), 1.1e-35, -1.1e-35,
           5e-324, -1e-40, 1e300, -1e300, -0.5, 0.9999999999, 38.99999999999, 1.5, 40.0, 1e10]
    extra = []
    for j in range(5):
        for v in odd:
            r = x[len(extra) % 200].copy()
            r[j] = v
            extra.append(r)
    everything = np.array(list(rows) + extra)
    cats = dict(categorical_feature=[3, 4])
    save_lightgbm("lightgbm_category", dict(objective="binary", sigmoid=0.7, learning_rate=0.5, min_data_per_group=5,
                  cat_smooth=1, max_cat_to_onehot=2), x, y, names, everything, **cats)
    save_lightgbm("lightgbm_zero", dict(objective="binary", zero_as_missing=True), x, y, names, everything)
    save_lightgbm("lightgbm_none", dict(objective="cross_entropy", use_missing=False), x, y * 0.9 + 0.05, names, everything)
    save_lightgbm("lightgbm_forest", dict(objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.5), x, y,
                  names, rows, trees=5)
    save_lightgbm("lightgbm_dart", dict(objective="binary", boosting="dart", drop_rate=0.5), x, y, names, rows)
    save_lightgbm("lightgbm_leaf", dict(objective="binary", min_gain_to_split=1e9), x, y, names, rows[:3], trees=3)

    types = ["float", "float", "float", "c", "c"]
    # XGBoost refuses what is infinite as a float.
    tame = np.array([r for r in everything if np.all(np.isnan(r) | (np.abs(r) < 1e38))])
    save_xgboost("xgboost_category", dict(tree_method="hist", max_cat_to_onehot=4, eta=0.5), x, y, names, tame, types=types)
    save_xgboost("xgboost_pruned", dict(tree_method="exact", gamma=4.0, base_score=0.3), x, y, None, tame)
    save_xgboost("xgboost_dart", dict(booster="dart", rate_drop=0.5, tree_method="hist"), x, y, names, rows, trees=6)
    p = dict(objective="reg:logistic", num_parallel_tree=3, subsample=0.5, tree_method="hist")
    save_xgboost("xgboost_forest", p, x, y, names, rows, trees=2)

    save_early("xgboost_early")
    save_early("xgboost_early_forest", num_parallel_tree=2, subsample=0.6, tree_method="hist")
    save_early("xgboost_early_dart", booster="dart", rate_drop=0.3, tree_method="hist")
    save_own()


main()
