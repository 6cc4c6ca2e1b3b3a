"""The floor under every Python server: raw ASGI, the body read and thrown away, a constant answer of zap's shape."""

from settled import settle

ANSWER = (
    b'{"predicted_class":"Level 2","probabilities":{"DC Fast Charger":0.2034,"Level 1":0.1041,"Level 2":0.6925},'
    b'"input_id":123456,"prediction_id":234567,"model_version":1,"history_sessions":0,"confidence":"low"}'
)
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
}
BODY = {"type": "http.response.body", "body": ANSWER}


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)


settle()
