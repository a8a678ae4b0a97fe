"""``/v1/encode`` as LMDeploy has it, and the way from ``/`` to the documentation."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from chat.server.api.access import prompts_of
from chat.server.api.problems import FLAT_REFUSALS, FlatRoute
from chat.server.vllm_plugin.compatibility import validate_json_request

__all__ = ["router"]

router = APIRouter(route_class=FlatRoute, responses=FLAT_REFUSALS, tags=["Tokens"])


class EncodeRequest(BaseModel):
    """What to encode."""

    model_config = ConfigDict(extra="forbid")

    input: str | list[str]
    do_preprocess: bool = Field(False, description="encode each text as a user's message, in the chat template")
    add_bos: bool = Field(True, description="begin with the token that begins a text, if the model has one")


class EncodeReply(BaseModel):
    """The token ids; lists of both if a list was given."""

    input_ids: list[int] | list[list[int]]
    length: int | list[int]


@router.post("/v1/encode", summary="Encode text", dependencies=[Depends(validate_json_request)])
def encode(body: EncodeRequest, raw_request: Request) -> EncodeReply:
    """Return the token ids of texts. Text is text: what spells a control token is encoded as the letters it has."""
    prompts = prompts_of(raw_request)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if body.do_preprocess:
        found = [prompts.builder.build([{"role": "user", "content": text}]).token_ids for text in texts]
    else:
        first = prompts.bos_token_ids if body.add_bos else []
        found = [[*first, *prompts.builder.tokenizer.encode(text)] for text in texts]
    if isinstance(body.input, str):
        return EncodeReply(input_ids=found[0], length=len(found[0]))
    return EncodeReply(input_ids=found, length=[len(ids) for ids in found])


@router.get("/", include_in_schema=False)
def lead_to_docs() -> RedirectResponse:
    """Lead people to the documentation."""
    return RedirectResponse("docs")
