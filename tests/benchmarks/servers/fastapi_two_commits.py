"""The service as it is often written: FastAPI, a one-row DataFrame, the scikit-learn wrapper, two commits.

The database is SQLite as it comes (rollback journal), with a session of SQLAlchemy for each of the two rows.
"""

import json
import os
from datetime import UTC, datetime

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class InferenceInput(Base):
    __tablename__ = "inference_inputs"
    input_id: Mapped[int] = mapped_column(primary_key=True)
    request_timestamp: Mapped[datetime]
    input_data_json: Mapped[str]


class Prediction(Base):
    __tablename__ = "predictions"
    prediction_id: Mapped[int] = mapped_column(primary_key=True)
    input_id: Mapped[int] = mapped_column(ForeignKey("inference_inputs.input_id"))
    prediction_timestamp: Mapped[datetime]
    source: Mapped[str]
    predicted_class: Mapped[str]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")
    state_of_charge_start: float = Field(ge=0, le=100)
    distance_driven_km: float = Field(ge=0, le=2000)
    temperature_c: float = Field(ge=-60, le=60)
    battery_capacity_kwh: float = Field(gt=0, le=400)
    vehicle_age_years: float = Field(ge=0, le=50)
    user_type: str
    vehicle_model: str


trained = joblib.load(os.environ["BENCH_MODEL"])
engine = create_engine(os.environ["BENCH_DATABASE_URL"], pool_size=40, connect_args={"timeout": 60})
Base.metadata.create_all(engine)
app = FastAPI()


# In FastAPI's threads, which is faster than on the event loop wherever the disk is not: others compute meanwhile.
@app.post("/predict")
def predict(request: Request):
    fields = request.model_dump()
    with Session(engine) as session:
        row = InferenceInput(request_timestamp=datetime.now(UTC), input_data_json=json.dumps(fields))
        session.add(row)
        session.commit()
        input_id = row.input_id
    fields["user_type"] = trained["codes"]["user_type"].get(fields["user_type"], -1)
    fields["vehicle_model"] = trained["codes"]["vehicle_model"].get(fields["vehicle_model"], -1)
    frame = pd.DataFrame([fields | {"hour": float(datetime.now(UTC).hour)}])[trained["columns"]]
    probabilities = trained["model"].predict_proba(frame)[0]
    predicted = str(trained["model"].classes_[probabilities.argmax()])
    with Session(engine) as session:
        logged = Prediction(
            input_id=input_id,
            prediction_timestamp=datetime.now(UTC),
            source="inference",
            predicted_class=predicted,
        )
        session.add(logged)
        session.commit()
        prediction_id = logged.prediction_id
    return {
        "predicted_class": predicted,
        "probabilities": dict(zip(trained["model"].classes_.tolist(), probabilities.tolist(), strict=True)),
        "input_id": input_id,
        "prediction_id": prediction_id,
    }
