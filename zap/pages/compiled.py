"""The compiled templates of this process: each is compiled once, for all languages."""

from jinja2.bccache import Bucket, BytecodeCache


class CompiledTemplates(BytecodeCache):
    """The code of the templates, in memory. The environments that share it must not compute constants beforehand."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Put the code of a template into its bucket, if the template was compiled before."""
        if (known := self._known.get(bucket.key)) is not None:
            bucket.bytecode_from_string(known)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of a template."""
        self._known[bucket.key] = bucket.bytecode_to_string()
