# The other side of `greenlight-lab bench trees`: XGBoost in process, on one thread.
#
# Arguments: a file with rows of 7 float32, then one model file or more. For each line "<model> <rows> <seconds>" on
# standard input it scores the first rows again and again for so many seconds of CPU time, and prints the nanoseconds of it
# per row. With 0 seconds it prints the scores.
import sys
import time

import numpy
import xgboost

rows = numpy.fromfile(sys.argv[1], dtype="<f4").reshape(-1, 7)
models = []
for path in sys.argv[2:]:
    booster = xgboost.Booster({"nthread": 1}, model_file=path)
    booster.set_param({"nthread": 1})
    models.append(booster)
print(xgboost.__version__, flush=True)
for line in sys.stdin:
    model, count, seconds = line.split()
    booster, x, seconds = models[int(model)], rows[: int(count)], float(seconds)
    scores = booster.inplace_predict(x)
    if seconds == 0:
        print(*scores.astype(float), flush=True)
        continue
    calls, begin = 0, time.process_time()
    while (took := time.process_time() - begin) < seconds or calls == 0:
        booster.inplace_predict(x)
        calls += 1
    print(took * 1e9 / (calls * len(x)), flush=True)
