"""A notebook in cells: a version of the model, judged in Python. It reads the database that ZAP_DATABASE_URL names."""

# %% The history, as it is learned from.
import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

import zap

history = zap.read_history()
print(f"{len(history):,} sessions of {history['user_id'].nunique():,} drivers; not usable: {history.attrs['dropped']}")

# %% The version in production, and its scores on its test sessions.
model = zap.load_model()
evaluation = zap.evaluate()
best = evaluation["baselines"][evaluation["best_baseline"]]
print(f"weighted F1 {evaluation['test_f1_score']:.3f}, best baseline {best['weighted_f1']:.3f}")
print(f"log loss {evaluation['log_loss']:.3f}, best baseline {best['log_loss']:.3f}")

# %% The confusion matrix, as a picture. The tested sessions are the last ones of the history.
tested = history.tail(sum(map(sum, evaluation["confusion_matrix"])))
figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
display = ConfusionMatrixDisplay.from_estimator(
    model.with_history(history), tested, tested["charger_type"], labels=evaluation["classes"], cmap="Blues", ax=axes
)
axes.set(xlabel="predicted charger type", ylabel="used charger type", title=f"The last {len(tested):,} sessions")
figure.savefig("confusion_matrix.png", dpi=120)

# %% What the trees look at, and why one session got its answer.
importances = model.feature_importances()
print((importances / importances.sum()).head(10).to_string(float_format="{:.3f}".format))
contributions = model.contributions(tested.tail(1), history=history).iloc[0]
print(contributions.sort_values(key=abs, ascending=False).head(10).to_string(float_format="{:+.3f}".format))
