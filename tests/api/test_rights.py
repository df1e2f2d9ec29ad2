"""Who is let in, and to what: nobody is, unless it is said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from fastapi import APIRouter

from streams.api.app import create_app, document
from streams.api.rights import ROLES, Holder, May, Right, Tokens, new_token, read_tokens, require_rights
from streams.api.run import tokens_of
from streams.commands.serve import serve
from streams.preflight import SettingsError
from streams.settings import Settings
from tests.api.conftest import WITHOUT, Asked, TokensFile

PLACES = {"account": "salesforce:1", "dimension": "engagement", "segment": "hot"}


def routes(app: Any) -> list[tuple[str, str, Right]]:
    """Every route that there is: method, a path to ask, and the right that it wants."""
    found = []
    for route in app.routes:
        (may,) = (each.call for each in route.dependant.dependencies if isinstance(each.call, May))
        found += [(method, route.path_format.format(**PLACES), may.right) for method in route.methods]
    return found


async def test_every_route_wants_a_token_that_is_known(api: Asked) -> None:
    asked = [
        *routes(api.app),
        ("GET", "/", Right.READ),
        ("GET", "/not/here", Right.READ),
        ("PUT", "/v1/changes", Right.READ),
    ]
    assert len(asked) >= 9
    for method, path, _ in asked:
        for shown, problem in ((WITHOUT, "no_token"), ("isotherm_wrong", "unknown_token"), ("", "no_token")):
            answer = await api.get(path, shown, method)
            assert (answer.status, answer.body["type"]) == (401, f"urn:isotherm:problem:{problem}"), (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert answer.headers["Content-Type"] == "application/problem+json"


async def test_every_route_wants_a_role_that_may(api: Asked) -> None:
    refused = 0
    for method, path, right in routes(api.app):
        for role, rights in ROLES.items():
            if right in rights:
                continue
            answer = await api.get(path, role, method)
            assert (answer.status, answer.body["type"]) == (403, "urn:isotherm:problem:role_too_small"), path
            assert role in answer.body["detail"]
            refused += 1
    assert refused


def test_a_route_that_says_nothing_ends_the_start() -> None:
    router = APIRouter()

    @router.get("/v1/open")
    def opened() -> str:
        return "to everybody"

    with pytest.raises(RuntimeError, match="/v1/open does not say who may ask it"):
        require_rights(router.routes)


async def test_other_schemes_are_no_tokens(api: Asked) -> None:
    for header in ("Basic " + api.tokens["reader"], api.tokens["reader"], "Bearer", "Bearer  "):
        async with api.session.get(f"{api.url}/v1/segments", headers={"Authorization": header}) as answer:
            assert answer.status == 401
    lower = {"Authorization": "bearer " + api.tokens["reader"]}
    async with api.session.get(f"{api.url}/v1/segments", headers=lower) as answer:
        assert answer.status == 200


async def test_problems_say_what_to_do_and_repeat_no_token(api: Asked) -> None:
    answer = await api.get("/v1/nowhere")
    assert (answer.status, answer.body["type"]) == (404, "urn:isotherm:problem:not_found")
    assert "/openapi.json" in answer.body["hint"]
    assert (await api.get("/v1/changes", method="POST")).status == 405
    wrong = await api.get("/v1/segments", "isotherm_secret")
    assert "isotherm_secret" not in json.dumps(wrong.body)


async def test_the_document_is_valid_and_names_every_route(api: Asked) -> None:
    made = (await api.get("/openapi.json")).body
    openapi_spec_validator.validate(made)
    assert made == json.loads(json.dumps(document(api.app)))
    documented = {(method.upper(), path) for path, each in made["paths"].items() for method in each}
    there = {(method, route.path_format) for route in api.app.routes for method in route.methods}
    assert documented == there - {("GET", "/openapi.json")}
    for each in made["paths"].values():
        assert each["get"]["security"]
        assert {"401", "403"} <= each["get"]["responses"].keys()


def test_a_broken_file_of_tokens_is_told_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    good = hashlib.sha256(b"x").hexdigest()
    path.write_text(
        f"- {{name: a, sha256: {good}, role: reader}}\n"
        f"- {{name: a, sha256: {good}, role: raeder}}\n"
        "- {name: b, sha256: isotherm_in_the_clear, role: admin}\n"
        f"- {{sha256: {good}, role: admin, rloe: admin}}\n"
    )
    with pytest.raises(SettingsError) as told:
        read_tokens(path)
    lines = str(told.value).splitlines()
    assert any("tokens.yaml:2: two tokens are named 'a'" in each for each in lines)
    assert any(
        "tokens.yaml:2: 'role' is one of reader, operator, admin (did you mean 'reader'?)" in each
        for each in lines
    )
    assert any("tokens.yaml:3: 'sha256' is 64 hexadecimal digits" in each for each in lines)
    assert any("tokens.yaml:4: unknown key 'rloe' (did you mean 'role'?)" in each for each in lines)
    assert any("tokens.yaml:4: 'name' is missing" in each for each in lines)
    assert "in_the_clear" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "holds no token"), ("name: a\n", "no list of tokens"), ("- a\n", "no token"), ("- [", "not valid YAML")],
)
def test_a_file_without_tokens_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=told):
        read_tokens(path)


def test_nobody_could_ask_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ISOTHERM_API_TOKENS"):
        tokens_of(Settings(api_tokens=""))
    with pytest.raises(SettingsError, match="cannot read"):
        tokens_of(Settings(api_tokens=str(tmp_path / "none")))


def test_a_token_that_is_taken_out_is_of_no_use_and_a_broken_file_changes_nothing(file: TokensFile) -> None:
    tokens, reader = Tokens(str(file.path)), file.tokens["reader"]
    assert tokens.holder(reader) == Holder("a reader", "reader")
    text = file.path.read_text()
    file.path.write_text("- {name: broken}\n")
    assert tokens.holder(reader) == Holder("a reader", "reader")
    file.path.write_text("".join(line + "\n" for line in text.splitlines() if "reader" not in line))
    assert tokens.holder(reader) is None
    assert not tokens.knows(Holder("a reader", "reader"))
    assert tokens.holder(file.tokens["admin"]) == Holder("an admin", "admin") or tokens.holder(
        file.tokens["admin"]
    )


def test_all_tokens_are_compared_whichever_it_is(file: TokensFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time each, and none is left out after one that fits."""
    import hmac

    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((len(a), len(b))) or compare(a, b))
    tokens = Tokens(str(file.path))
    for shown in (*file.tokens.values(), "isotherm_wrong", "x"):
        compared.clear()
        tokens.holder(shown)
        assert compared == [(32, 32)] * len(ROLES)


def test_a_new_token_is_told_once_beside_the_line_for_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(admit="dash-board", role="operator")
    printed = capsys.readouterr()
    path = tmp_path / "tokens.yaml"
    path.write_text(printed.out)
    token = printed.err.split()[-1]
    assert Tokens(str(path)).holder(token) == Holder("dash-board", "operator")
    assert token not in printed.out
    with pytest.raises(SystemExit, match="2"):
        serve(admit='a", role: admin}')
    assert capsys.readouterr().out == ""


def test_tokens_are_long_and_never_the_same() -> None:
    made = {new_token()[0] for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) > 40


def test_the_app_is_made_without_asking_anybody(file: TokensFile) -> None:
    """A page that is to be served beside it takes this factory; neither Kafka nor Redis need be there yet."""
    app = create_app(Settings(kafka="127.0.0.1:1", redis="redis://127.0.0.1:1"), Tokens(str(file.path)))
    assert not app.state.hub.is_reading
