"""What Litestar alone can do: zap's fields decoded and checked by msgspec, a constant answer of zap's shape."""

from typing import Annotated

from litestar import Litestar, post
from litestar.params import JSONBody
from msgspec import Meta, Struct
from settled import settle


class Request(Struct, forbid_unknown_fields=True):
    state_of_charge_start: Annotated[float, Meta(ge=0, le=100)] | None = None
    distance_driven_km: Annotated[float, Meta(ge=0, le=2000)] | None = None
    temperature_c: Annotated[float, Meta(ge=-60, le=60)] | None = None
    battery_capacity_kwh: Annotated[float, Meta(gt=0, le=400)] | None = None
    vehicle_age_years: Annotated[float, Meta(ge=0, le=50)] | None = None
    user_type: str | None = None
    vehicle_model: str | None = None
    charging_start_time: str | None = None
    user_id: str | None = None
    vehicle_id: int | None = None


class Reply(Struct):
    predicted_class: str
    probabilities: dict[str, float]
    input_id: int
    prediction_id: int
    model_version: int
    history_sessions: int
    confidence: str


ANSWER = Reply(
    "Level 2", {"DC Fast Charger": 0.2034, "Level 1": 0.1041, "Level 2": 0.6925}, 123456, 234567, 1, 0, "low"
)


@post("/predict", status_code=200)
async def predict(data: JSONBody[Request]) -> Reply:
    return ANSWER


app = Litestar([predict], openapi_config=None, logging_config=None, on_startup=[settle])
