"""Cases of what a body is: its syntax, its media type, its place in the message, and content."""

from tests.transcoding.cases.case import JSON, SILENCE, Case, Content, Outcome, get, seen, send

FORM, TEXT = "application/x-www-form-urlencoded", "text/plain"


def _shelf(
    body: str | bytes, ours: Outcome, envoy: Outcome | None = None, because: str = ""
) -> Case:
    return send("/v1/shelves", body, ours, envoy=envoy, because=because)


_A = seen("CreateShelf", name="a")
SYNTAX = (
    _shelf(' {\t"name"\r\n: "a" } ', _A),
    _shelf(r'{"na\u006de":"a"}', _A),
    _shelf("", seen("CreateShelf")),
    *(_shelf(body, 400) for body in ("null", "[]", '"x"', "true", "{", "x", "{}x", "{} {}", " ")),
    *(_shelf(body, 400) for body in ('{"name":"a"', '{"name":"a}', '{"name":}', '{"name" "a"}')),
    *(_shelf(body, 400) for body in ("{,}", '{"name":tru}', '{1:"a"}', "/**/{}", '{"name":"a";}')),
    _shelf("5", 400),
    _shelf('{"name":"a",}', 400, _A, "syntax"),
    _shelf('{name:"a"}', 400, _A, "syntax"),
    _shelf("{'name':'a'}", 400, _A, "syntax"),
    _shelf(b'{"name":"\xff"}', 400),
    _shelf(b'\xef\xbb\xbf{"name":"a"}', 400),
    _shelf('{"name":"a"}'.encode("utf-16"), 400),
    send("/v1/odd", '{"a/b~c":"x"}', seen("CreateOdd", **{"a/b~c": "x"})),
    send("/v1/odd", '{"path":"x"}', seen("CreateOdd", **{"a/b~c": "x"})),
    send(
        "/v1/trees",
        '{"left":{"left":{"name":"a"}},"branches":[{"name":"b"}],"leaf":[1]}',
        seen("CreateTree", left={"left": {"name": "a"}}, branches=[{"name": "b"}], leaf=[1]),
    ),
    send("/v1/trees", '{"left":' * 150 + "{}" + "}" * 150, 400),
    send("/v1/known", '{"aValue":' + "[" * 150 + "]" * 150 + "}", 400),
)


def _typed(media_type: str | None, body: str, ours: Outcome, envoy: Outcome, because: str) -> Case:
    return send("/v1/shelves", body, ours, envoy=envoy, because=because, media_type=media_type)


_GOT = seen("GetShelf", name="a")
MEDIA_TYPES = (
    _typed("application/json; charset=utf-8", '{"name":"a"}', _A, _A, ""),
    _typed("Application/JSON", '{"name":"a"}', _A, _A, ""),
    _typed(TEXT, '{"name":"a"}', 415, _A, "media-type"),
    _typed(None, '{"name":"a"}', 415, _A, "media-type"),
    _typed("application/json; charset=utf-16", '{"name":"a"}', 415, _A, "media-type"),
    _typed(FORM, "name=a", _A, 400, "form"),
    _typed(FORM, "name=a&name=b", 400, 400, ""),
    send(
        "/v1/shelves",
        '{"name":"a"}',
        415,
        envoy=_A,
        because="media-type",
        headers=(("Content-Encoding", "gzip"),),
    ),
    get("/v1/shelves/a", _GOT, accept="text/html, application/*;q=0.5"),
    get("/v1/shelves/a", 406, envoy=_GOT, because="accept", accept="text/html"),
    get("/v1/shelves/a", 406, envoy=_GOT, because="accept", accept="application/json;q=0"),
    send("/v1/shelves", '{"name":"' + "a" * 300_000 + '"}', 413),
)


def _put(
    field: str, body: str, ours: Outcome, envoy: Outcome | None = None, because: str = ""
) -> Case:
    return send(f"/v1/books/a/{field}", body, ours, envoy=envoy, because=because, by="PUT")


FIELDS = (
    _put("title", '"x"', seen("PutTitle", name="a", title="x")),
    _put("title", '""', seen("PutTitle", name="a")),
    _put("title", '{"title":"x"}', 400),
    _put("title", '"x" "y"', 400),
    _put("title", "null", seen("PutTitle", name="a")),
    _put("title", "", seen("PutTitle", name="a"), envoy=400, because="no-body"),
    _put("copies", '"5"', seen("PutCopies", name="a", copies="5")),
    _put("copies", "5 ", seen("PutCopies", name="a", copies="5")),
    _put(
        "copies", "5", seen("PutCopies", name="a", copies="5"), envoy=SILENCE, because="number-body"
    ),
    _put("copies", "[5]", 400),
    _put("mood", '"MOOD_MERRY"', seen("PutMood", name="a", mood="MOOD_MERRY")),
    _put(
        "printed",
        '"2020-01-01T00:00:00Z"',
        seen("PutPrinted", name="a", printed="2020-01-01T00:00:00Z"),
    ),
    _put("shelf", '{"name":"x"}', seen("PutShelf", name="a", shelf={"name": "x"})),
    _put("shelf", "{}", seen("PutShelf", name="a", shelf={})),
    _put("shelf", "null", seen("PutShelf", name="a")),
    _put("shelf", "[]", 400),
    _put(
        "shelf",
        '{"nope":1}',
        400,
        envoy=seen("PutShelf", name="a", shelf={}),
        because="unknown-member",
    ),
    _put("tags", '["x","y"]', seen("PutTags", name="a", tags=["x", "y"])),
    _put("tags", "[]", seen("PutTags", name="a")),
    _put("tags", "null", seen("PutTags", name="a")),
    _put("tags", '"x"', 400, envoy=seen("PutTags", name="a", tags=["x"]), because="list"),
    _put("tags", "", seen("PutTags", name="a"), envoy=400, because="no-body"),
    _put("shelves", '[{"name":"x"},{}]', seen("PutShelves", name="a", shelves=[{"name": "x"}, {}])),
    _put("shelves", "{}", 400, envoy=seen("PutShelves", name="a", shelves=[{}]), because="list"),
    _put("by-name", '{"k":{"name":"x"}}', seen("PutByName", name="a", byName={"k": {"name": "x"}})),
    _put("by-name", "[]", 400),
)
PLACES = (
    send("/v1/shelves/a", '{"name":"b"}', 400, by="PUT"),
    send(
        "/v1/shelves/a",
        '{"name":"a"}',
        400,
        envoy=seen("ReplaceShelf", name="a"),
        because="bound-by-path",
        by="PUT",
    ),
    send("/v1/shelves/a", '{"name":null}', seen("ReplaceShelf", name="a"), by="PUT"),
    send("/v1/shelves/a", "", seen("ReplaceShelf", name="a"), by="PUT"),
    send(
        "/v1/placed/s",
        '{"shelf":{"theme":"t"}}',
        seen("ReplaceShelfOf", shelf={"name": "s", "theme": "t"}),
        by="PUT",
    ),
    send("/v1/placed/s", '{"shelf":{}}', seen("ReplaceShelfOf", shelf={"name": "s"}), by="PUT"),
    send("/v1/placed/s", '{"shelf":null}', seen("ReplaceShelfOf", shelf={"name": "s"}), by="PUT"),
    send("/v1/placed/s", '{"shelf":{"name":"x"}}', 400, by="PUT"),
    send(
        "/v1/shelves/a",
        '{"theme":"t"}',
        400,
        envoy=seen("GetShelf", name="a", theme="t"),
        because="body-without-rule",
        by="GET",
    ),
    send(
        "/v1/shelves/a",
        '{"theme":"t"}',
        400,
        envoy=seen("DeleteShelf", name="a", theme="t"),
        because="body-without-rule",
        by="DELETE",
    ),
    send("/v1/shelves/a", "", seen("DeleteShelf", name="a"), by="DELETE"),
)
CONTENT = (
    send(
        "/v1/raw",
        b"\x00\xff",
        Content(method="Upload", media_type="image/x", data=b"\x00\xff"),
        media_type="image/x",
    ),
    send(
        "/v1/raw", '{"a":', Content(method="Upload", media_type="application/json", data=b'{"a":')
    ),
    send("/v1/raw", "", Content(method="Upload", media_type=TEXT, data=b""), media_type=TEXT),
    send(
        "/v1/documents/a",
        "hello",
        seen("PutDocument", name="a", content={"contentType": TEXT, "data": "aGVsbG8="}),
        media_type=TEXT,
        by="PUT",
    ),
    send(
        "/v1/documents/a/content",
        "hello",
        Content(method="ExchangeDocument", media_type=TEXT, data=b"hello"),
        media_type=TEXT,
        by="PUT",
    ),
    get(
        "/v1/download?name=text/x&theme=hello",
        Content(method="Download", media_type="text/x", data=b"hello"),
    ),
    send("/v1/raw", "x", Content(method="Upload", media_type="", data=b"x"), media_type=None),
    get("/v1/download?theme=x", Content(method="Download", media_type="", data=b"x")),
    get(
        "/v1/download",
        Content(method="Download", media_type="", data=b""),
        envoy=Content(method="Download", media_type=JSON, data=b""),
        because="no-media-type",
    ),
    # A media type that would be a header field of its own.
    get(
        "/v1/download?name=a%0D%0Ax:y&theme=b",
        500,
        envoy=Content(method="Download", media_type="a", data=b"b"),
        because="split-header",
    ),
)
FAILURES = tuple(
    get(f"/v1/fail/{code}", status)
    for code, status in (
        *((1, 499), (2, 500), (3, 400), (4, 504), (5, 404), (6, 409), (7, 403), (8, 429)),
        *((9, 400), (10, 409), (11, 400), (12, 501), (13, 500), (14, 503), (15, 500), (16, 401)),
    )
)
CASES: tuple[Case, ...] = (*SYNTAX, *MEDIA_TYPES, *FIELDS, *PLACES, *CONTENT, *FAILURES)
