"""The words for codes that the database stores: alarms, verdicts, statuses, baselines, phases of a training."""

from zap.pages.texts import marked

ALARM_WORDS = {
    "harm": marked("Harm"),
    "drift": marked("Drift"),
    "no_outcomes": marked("No outcomes"),
    "refused_requests": marked("Many refused requests"),
    "follower_behind": marked("The follower is behind"),
    "log_slow": marked("The log is slow"),
    "version_refused": marked("The version cannot be loaded"),
    "training_failed": marked("The training failed"),
    "disk_nearly_full": marked("The disk is nearly full"),
}
# The page that says more about an alarm, and what to do there.
ALARM_PAGES = {
    "harm": (marked("Since when"), "/pages/data#harm"),
    "drift": (marked("What has changed"), "/pages/data#drift"),
    "no_outcomes": (marked("Reported sessions"), "/pages/data/fields?subject=sessions"),
    "refused_requests": (marked("What is refused"), "/pages/data/fields"),
    "version_refused": (marked("Models"), "/pages/models"),
    "training_failed": (marked("Why"), "/pages/trainings"),
}
# For each verdict, the words and the kind of the badge.
VERDICT_WORDS = {
    "better": (marked("beats guessing"), "good"),
    "not_shown": (marked("not shown to beat guessing"), "notice"),
    "worse": (marked("worse than guessing"), "bad"),
}
STATUS_WORDS = {
    "candidate": (marked("candidate"), "quiet"),
    "production": (marked("in production"), "good"),
    "archived": (marked("served earlier"), "quiet"),
}
BASELINE_WORDS = {
    "prior": marked("usual mix of types"),
    "driver_share": marked("driver's own share"),
    "driver_share_time_of_day": marked("driver's share at that time of day"),
    "driver_share_recent": marked("driver's recent share"),
    "pooled_shares": marked("driver's shares, pooled"),
}
PHASE_WORDS = {
    "read": marked("reading the history"),
    "clean": marked("cleaning the history"),
    "features": marked("computing the features"),
    "tune": marked("searching hyper-parameters"),
    "fit": marked("fitting"),
    "evaluate": marked("evaluating"),
    "windows": marked("testing on windows"),
    "compare": marked("comparing with the version in production"),
    "save": marked("saving"),
    "log": marked("logging the predictions"),
}
# What happened after an answer: the words and the kind of the badge.
WHAT_WORDS = {
    "right": (marked("right"), "good"),
    "wrong": (marked("wrong"), "bad"),
    "waiting": (marked("not yet"), "running"),
    "no_session": (marked("no session"), "quiet"),
    "superseded": (marked("superseded"), "quiet"),
    "no_driver": (marked("no driver named"), "quiet"),
    "unfollowed": (marked("not read yet"), "quiet"),
    "training": (marked("of a training"), "quiet"),
}
POINT_WORDS = {
    "session": marked("session"),
    "answer": marked("answer"),
    "right": marked("right answer"),
    "wrong": marked("wrong answer"),
}
GROUP_WORDS = {
    "habit": marked("the driver's habit"),
    "last_sessions": marked("the driver's last sessions"),
    "time": marked("time of day and weekday"),
    "charge_and_distance": marked("charge left and distance"),
    "weather": marked("the weather"),
    "vehicle": marked("the vehicle"),
    "user_type": marked("the user type"),
    "other_drivers": marked("the other drivers now"),
    "usual_mix": marked("the usual mix"),
    "averaging": marked("averaging of the parts"),
    "total": marked("log-ratio of the answer"),
}
FIELD_WORDS = {
    "user_id": marked("Driver"),
    "vehicle_id": marked("Vehicle, by its id"),
    "state_of_charge_start": marked("Charge left"),
    "distance_driven_km": marked("Distance since the last charge"),
    "temperature_c": marked("Outside temperature"),
    "battery_capacity_kwh": marked("Battery size"),
    "vehicle_age_years": marked("Age of the vehicle"),
    "user_type": marked("User type"),
    "vehicle_model": marked("Vehicle model"),
    "charging_start_time": marked("Start"),
}
# The filters in the addresses of pages.
FILTER_WORDS = {
    "id": marked("Prediction id"),
    "driver": marked("Driver"),
    "user_id": marked("Driver"),
    "from": marked("From"),
    "to": marked("To"),
    "class": marked("Answered charger type"),
    "version": marked("Version"),
    "outcome": marked("What happened"),
    "kind": marked("Kind"),
    "input": marked("Request id"),
    "by": marked("Periods"),
    "feature": marked("Feature"),
    "field": marked("Field"),
    "subject": marked("What"),
    "first": marked("Version"),
    "second": marked("beside version"),
}
WHO_WORDS = {"trial": marked("the trial")}
UNIT_WORDS = {"%": "%%", "km": marked("km"), "°C": "°C", "kWh": marked("kWh"), "years": marked("years")}
# Where the value of a field came from.
ORIGIN_WORDS = {
    "sent": marked("the request"),
    "history": marked("the history"),
    "default": marked("the moment of asking"),
    "missing": marked("missing"),
    "ignored": marked("not used by this version"),
}
# The slices of live quality, by the driver's past.
EARLIER_WORDS = {
    "0": marked("none"),
    "1-4": marked("1 to 4"),
    "5-19": marked("5 to 19"),
    "20+": marked("20 or more"),
}
USED_WORDS = {"none": marked("none"), "one": marked("one"), "several": marked("several")}
RUN_WORDS = {
    "running": (marked("running"), "running"),
    "finished": (marked("finished"), "good"),
    "failed": (marked("failed"), "bad"),
    "cancelled": (marked("cancelled"), "quiet"),
}
TRIAL_WORDS = {
    "running": (marked("on trial"), "running"),
    "better": (marked("better"), "good"),
    "not_worse": (marked("not worse"), "quiet"),
    "worse": (marked("worse"), "bad"),
    "undecided": (marked("undecided"), "quiet"),
    "ended": (marked("ended"), "quiet"),
}
ACTION_WORDS = {"promote": marked("promoted"), "rollback": marked("rolled back")}
SCORE_WORDS = {
    "test_f1_score": marked("weighted F1"),
    "macro_f1": marked("macro F1"),
    "accuracy": marked("accuracy"),
    "log_loss": marked("log loss"),
}
# The parts of a model that are scored alone.
PART_WORDS = {
    "trees": marked("the trees alone"),
    "logistic": marked("the logistic regression alone"),
    "blend": marked("the blend of both"),
}
# The groups of test sessions by the past of their drivers.
SLICE_WORDS = {
    "0": marked("no earlier session"),
    "1-4": marked("1 to 4 earlier sessions"),
    "5-19": marked("5 to 19 earlier sessions"),
    "20+": marked("20 or more earlier sessions"),
    "none": marked("no type used before"),
    "one": marked("one type used before"),
    "several": marked("several types used before"),
}
HYPER_PARAMETER_WORDS = {
    "n_estimators": marked("boosting rounds"),
    "num_leaves": marked("largest number of leaves of a tree"),
    "learning_rate": marked("weight of each tree"),
    "max_depth": marked("largest depth of a tree; −1 means no limit"),
    "colsample_bytree": marked("share of the columns that each tree uses"),
    "subsample": marked("share of the rows that each tree uses"),
    "min_child_samples": marked("smallest number of rows in a leaf"),
    "reg_alpha": marked("L1 regularisation"),
    "reg_lambda": marked("L2 regularisation"),
    "random_state": marked("seed"),
    "estimator": marked("kind of model: the trees alone, or their blend with a logistic regression"),
    "left_out": marked("groups of columns that the trees do not use"),
    "asked_before": marked("minutes before a session that its driver asks"),
    "delay": marked("minutes until a session is stored"),
    "n_jobs": marked("threads of the training"),
}
# The groups of columns that a training may leave out.
COLUMN_GROUP_WORDS = {
    "charge_and_distance": marked("charge and distance at the start of the session"),
    "temperature": marked("outside temperature"),
    "vehicle": marked("battery size, age and model of the vehicle"),
    "user_type": marked("user type"),
    "time": marked("hour and weekday of the session"),
    "driver_shares": marked("the driver's shares of each type"),
    "driver_recent_shares": marked("these shares, with more weight on recent sessions"),
    "driver_means": marked("the driver's mean charge and distance"),
    "driver_counts": marked("how many sessions and types the driver has"),
    "driver_types_used": marked("the driver's sessions of each type, and the days since the last of them"),
    "driver_last_types": marked("the types of the driver's last sessions"),
    "driver_starts": marked("when the driver's last sessions started"),
    "driver_energies": marked("energy, duration and power of the driver's sessions"),
    "open_sessions": marked("the open sessions of all drivers"),
    "recent_mixes": marked("the mix of types in the last week, day and hour"),
    "hour_of_week": marked("the mix of types in this hour of the week"),
}
POLICY_WORDS = {
    "always": marked("serves at once"),
    "if_better": marked("serves if it is better than the version in production"),
    "trial": marked("begins a trial beside the version in production"),
    "never": marked("stays a candidate"),
}
FACT_WORDS = {
    "status": marked("state"),
    "created_at": marked("made"),
    "trained_from": marked("learned from sessions since"),
    "trained_until": marked("learned from sessions until"),
    "trained_samples": marked("sessions learned from"),
    "code_version": marked("code"),
    "note": marked("note"),
    "sessions": marked("test sessions"),
    "from": marked("test sessions since"),
    "until": marked("test sessions until"),
    "sha256": marked("fingerprint of the test sessions"),
}
NEED_WORDS = {
    "required": marked("required"),
    "nullable": marked("may be null"),
    "ignored": marked("not used"),
}
KEY_WORDS = {
    "active": (marked("in use"), "good"),
    "replaced": (marked("replaced, lives on"), "notice"),
    "expired": (marked("expired"), "quiet"),
    "revoked": (marked("revoked"), "quiet"),
}
# What the audit has.
CHANGE_WORDS = {
    "alarm.acknowledge": marked("alarm seen"),
    "alarms.settings": marked("settings of alarms"),
    "database.backup": marked("database backed up"),
    "database.compact": marked("database compacted"),
    "database.copy": marked("database copied"),
    "database.downgrade": marked("schema downgraded"),
    "database.restore": marked("database restored"),
    "database.upgrade": marked("schema upgraded"),
    "driver.erase": marked("driver erased"),
    "driver.erase-again": marked("driver erased again"),
    "driver.export": marked("driver exported"),
    "key.create": marked("key made"),
    "key.open": marked("all keys removed"),
    "key.revoke": marked("key revoked"),
    "key.rotate": marked("key rotated"),
    "history.import": marked("history added"),
    "history.remove": marked("history removed"),
    "log.prune": marked("old rows removed"),
    "predictions.export": marked("predictions exported"),
    "training.cancel": marked("training cancelled"),
    "training.fail": marked("training failed"),
    "training.finish": marked("training finished"),
    "training.start": marked("training started"),
    "training.tune": marked("hyper-parameters set"),
    "trial.begin": marked("trial begun"),
    "trial.end": marked("trial ended"),
    "version.promote": marked("version promoted"),
    "version.prune": marked("models of old candidates removed"),
    "version.rollback": marked("version rolled back"),
}
