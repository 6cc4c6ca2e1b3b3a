"""The words of the pages about data: features, values, fields, and what is found in them.

In texts of the catalogue `%%` stands for a percent sign.
"""

from zap.pages.texts import marked

# Features and fields with their units. A name that is not here is shown as it is.
FIELD_WORDS = {
    "state_of_charge_start": marked("Charge left (%%)"),
    "state_of_charge_end": marked("Charge at the end (%%)"),
    "distance_driven_km": marked("Distance since the last charge (km)"),
    "temperature_c": marked("Outside temperature (°C)"),
    "battery_capacity_kwh": marked("Battery size (kWh)"),
    "vehicle_age_years": marked("Age of the vehicle (years)"),
    "user_type": marked("User type"),
    "vehicle_model": marked("Vehicle model"),
    "hour": marked("Hour of the day"),
    "weekday": marked("Day of the week (0: Monday)"),
    "driver": marked("New or known driver"),
    "answered_type": marked("Answered charger type"),
    "charging_start_time": marked("Start"),
    "charging_end_time": marked("End"),
    "user_id": marked("Driver"),
    "vehicle_id": marked("Vehicle"),
    "charging_station_id": marked("Station"),
    "charging_station_location": marked("Location of the station"),
    "energy_consumed_kwh": marked("Energy (kWh)"),
    "charging_duration_hours": marked("Duration (hours)"),
    "charging_rate_kw": marked("Charging rate (kW)"),
    "charging_cost_usd": marked("Cost (USD)"),
    "charger_type": marked("Charger type"),
    "other": marked("names that are not fields"),
    "": marked("the whole body"),
}
VALUE_WORDS = {
    "other": marked("other values"),
    "missing": marked("missing"),
    "any value": marked("any value"),
    "new": marked("new"),
    "known": marked("known"),
}
# What is found in a field.
FOUND_WORDS = {
    "missing": marked("left out"),
    "null": marked("sent as null"),
    "completed": marked("completed by zap"),
    "unknown": marked("unknown"),
}
REASON_WORDS = {
    "not_csv": marked("not readable as CSV"),
    "not_json": marked("not readable as JSON"),
    "null": marked("null is not accepted"),
    "out_of_range": marked("out of range"),
    "repeated": marked("sent twice"),
    "required": marked("required, but left out"),
    "taken": marked("stored with other values"),
    "too_large": marked("too large"),
    "too_long": marked("too long"),
    "unknown": marked("not in the history"),
    "unknown_field": marked("not a field"),
    "wrong_media_type": marked("wrong media type"),
    "wrong_type": marked("wrong type"),
    "wrong_value": marked("wrong value"),
}
CHECK_WORDS = {
    "promise": marked("Worse than its test promised"),
    "baseline": marked("Worse than guessing"),
}
# Why a training left out sessions or values, as the report says it.
DROPPED_WORDS = {
    "no charger type": marked("no charger type"),
    "no readable start": marked("no readable start"),
    "not a number": marked("not a number"),
    "not readable": marked("not readable"),
    "before the start": marked("before the start"),
    "sessions without a user": marked("sessions without a driver"),
    "sessions of a user that Users lacks": marked("sessions of a driver that the table Users lacks"),
    "sessions without a vehicle": marked("sessions without a vehicle"),
    "sessions of a vehicle that Vehicles lacks": marked("sessions of a vehicle that the table Vehicles lacks"),
}
