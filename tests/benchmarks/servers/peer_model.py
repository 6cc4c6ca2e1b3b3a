"""Train the peers' model, in their own environment: `peer_model.py ROWS.csv.gz MODEL`, for MLflow with `--mlflow`.

LightGBM's scikit-learn wrapper on 8 features, as many rounds and leaves as zap's default.
"""

import sys

import joblib
import pandas as pd
from lightgbm import LGBMClassifier

try:
    import mlflow
except ImportError:
    mlflow = None

COLUMNS = [
    "state_of_charge_start",
    "distance_driven_km",
    "temperature_c",
    "battery_capacity_kwh",
    "vehicle_age_years",
    "user_type",
    "vehicle_model",
    "hour",
]


def main():
    rows, place, *options = sys.argv[1:]
    frame = pd.read_csv(rows)
    frame["hour"] = pd.to_datetime(frame["charging_start_time"]).dt.hour.astype(float)
    codes = {}
    for name in ("user_type", "vehicle_model"):
        codes[name] = {value: code for code, value in enumerate(sorted(frame[name].dropna().unique()))}
        frame[name] = frame[name].map(codes[name])
    features = frame[COLUMNS].astype(float)
    model = LGBMClassifier(
        n_estimators=200, num_leaves=40, learning_rate=0.05, colsample_bytree=0.8, reg_alpha=1.0, random_state=42,
        verbosity=-1,
    ).fit(features, frame["charger_type"])  # fmt: skip
    # They serve on one core, where LightGBM's second thread would spin against the first: 200 ms a request.
    model.set_params(n_jobs=1)
    if options == ["--mlflow"]:
        signature = mlflow.models.infer_signature(features, model.predict(features))
        mlflow.lightgbm.save_model(model, place, signature=signature, pip_requirements=[])
    else:
        joblib.dump({"model": model, "codes": codes, "columns": COLUMNS}, place)


if __name__ == "__main__":
    main()
