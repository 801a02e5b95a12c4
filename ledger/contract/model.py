"""RegisterModel: which AI models, by digest, may be released to."""

from ledger.contract import canonical
from ledger.contract.arguments import fields, is_hex, is_text
from ledger.contract.errors import Refused
from ledger.contract.state import Result, State, Transaction


def model_key(model: str) -> str:
    return f"model/{model}"


def register_model(state: State, transaction: Transaction) -> Result:
    """Approves or suspends a model version. `card` is the digest of its card; the provider stays."""
    args = fields(
        transaction.args,
        "arguments",
        model=is_hex,
        card=is_hex,
        provider=is_text,
        state=lambda value: value in ("approved", "suspended"),
    )
    before = state.get(model_key(args["model"]))
    known = None if before is None else canonical.load_canonical(before)
    value = {name: args[name] for name in ("card", "provider", "state")}
    if known is not None:
        if known["provider"] != args["provider"]:
            raise Refused(
                "provider_changed", "A model's provider cannot change. Register it under a new digest."
            )
        if value == {name: known[name] for name in value}:
            raise Refused("model_unchanged", "The model is registered with exactly this already.")
    value["version"] = 1 if known is None else known["version"] + 1
    state.put(model_key(args["model"]), canonical.dumps(value))
    payload = {"model": args["model"], "state": args["state"], "version": value["version"]}
    return Result(payload, ("ModelRegistered", payload))


def is_approved(value: bytes | None) -> bool:
    """Whether a `model/<digest>` value says that the model may be released to."""
    return value is not None and canonical.load_canonical(value).get("state") == "approved"
