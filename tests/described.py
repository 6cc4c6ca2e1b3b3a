"""The schemas of an OpenAPI document, and what in a reply differs from them."""

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


class Document:
    """The schemas of an OpenAPI document, as strict as can be: an object has no field that is not described."""

    def __init__(self, document):
        self.paths = document["paths"]
        self.schemas = document["components"]["schemas"]

    def resolved(self, schema):
        """Return a schema, or the schema that it refers to, beside its description."""
        (schema,) = schema.get("allOf", [schema])
        return self.resolved(self.schemas[schema["$ref"].rpartition("/")[2]]) if "$ref" in schema else schema

    def faults(self, value, schema, where=""):
        """Return what in a value differs from its schema."""
        schema = self.resolved(schema)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                found = [self.faults(value, one, where) for one in schema[several]]
                return [] if [] in found else min(found, key=len)
        if not self._has_type(value, schema):
            return [f"{where}: {value!r} is no {schema['type']}"]
        if value not in schema.get("enum", [value]) or value != schema.get("const", value):
            return [f"{where}: {value!r} is not {schema.get('enum', schema.get('const'))!r}"]
        if isinstance(value, list):
            items = schema.get("items", {})
            return [fault for place, one in enumerate(value) for fault in self.faults(one, items, f"{where}[{place}]")]
        return self._faults_of_members(value, schema, where) if isinstance(value, dict) else []

    def _faults_of_members(self, value, schema, where):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", "properties" not in schema)
        faults = [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, one in value.items():
            described = properties.get(name, more)
            if described is False:
                faults.append(f"{where}.{name} is not described")
            elif described is not True:
                faults += self.faults(one, described, f"{where}.{name}")
        return faults

    @staticmethod
    def _has_type(value, schema):
        kinds = schema.get("type", list(TYPES))
        kinds = [kinds] if isinstance(kinds, str) else kinds
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return any(isinstance(value, TYPES[kind]) and (number or kind not in {"integer", "number"}) for kind in kinds)

    def open_fields(self):
        """Return the fields of replies whose values may have members that no schema names."""

        def is_open(schema):
            schema = self.resolved(schema)
            parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
            parts += [schema[name] for name in ("items", "additionalProperties") if isinstance(schema.get(name), dict)]
            if parts:
                return any(map(is_open, parts))
            kinds = schema.get("type", "object" if "enum" not in schema and "const" not in schema else "")
            return "object" in kinds and "properties" not in schema

        return {
            f"{name}.{field}"
            for name, schema in self.schemas.items()
            for field, described in schema.get("properties", {}).items()
            if is_open(described)
        }
