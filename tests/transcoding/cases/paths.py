"""Cases of routing, and of what paths bind."""

from tests.transcoding.cases.case import Case, get, seen, send

METHODS = (
    get("/v1/shelves", seen("ListShelves")),
    send("/v1/shelves", '{"name":"a"}', seen("CreateShelf", name="a")),
    get("/v1/shelves/a", seen("GetShelf", name="a")),
    send("/v1/shelves/a", '{"theme":"t"}', seen("ReplaceShelf", name="a", theme="t"), by="PUT"),
    send("/v1/shelves/a", '{"theme":"t"}', seen("UpdateShelf", name="a", theme="t"), by="PATCH"),
    get("/v1/shelves/a", seen("DeleteShelf", name="a"), by="DELETE"),
    get("/v1/shelves/a", seen("ReportShelf", name="a"), by="REPORT"),
    get("/v1/heads/a", seen("HeadShelf", name="a"), by="HEAD"),
    get("/v1/heads/a", seen("HeadShelf", name="a"), by="OPTIONS"),
    get("/v1/heads/a", 405, envoy=404, because="method-not-allowed"),
    get("/v1/shelves/a", seen("GetShelf", name="a"), envoy=404, because="head", by="HEAD"),
    get("/v1/shelves/a", 204, envoy=404, because="options", by="OPTIONS"),
    get("/v1/nowhere", 404, by="OPTIONS"),
    get("/v1/shelves", 405, envoy=404, because="method-not-allowed", by="DELETE"),
    get("/v1/shelves/a", 405, envoy=404, because="method-not-allowed", by="LINK"),
    get("/v1/shelves/a", 405, envoy=400, because="method-not-allowed", by="BREW"),
    send("/v1/order/a/b", "{}", 405, envoy=404, because="method-not-allowed"),
    # Any method, below one that is named.
    get("/v1/any/a", seen("GetAny", name="a")),
    send("/v1/any/a", "", seen("TouchAny", name="a")),
    get("/v1/any/a", seen("TouchAny", name="a"), by="DELETE"),
    get("/v1/any/a", seen("TouchAny", name="a"), by="REPORT"),
    get("/v1/any/a", seen("TouchAny", name="a"), by="OPTIONS"),
    get(
        "/v1/any/a",
        seen("GetAny", name="a"),
        envoy=seen("TouchAny", name="a"),
        because="head",
        by="HEAD",
    ),
    # Several bindings.
    get("/v1/find/a", seen("FindShelf", name="a")),
    get("/v1/themes/a/find", seen("FindShelf", theme="a")),
    send("/v1/find", '{"name":"a"}', seen("FindShelf", name="a")),
)
PRECEDENCE = (
    get("/v1/order/first", seen("GetFirst")),
    get("/v1/order/x", seen("GetOne", name="x")),
    get("/v1/order/x/y", seen("GetRest", name="x/y")),
    get("/v1/order/first/a/end", seen("GetDeep", name="a")),
    get("/v1/order/first/a/other", seen("GetRest", name="first/a/other")),
    send("/v1/order/first", "{}", seen("PostOne", name="first")),
    get("/v1/order", seen("GetRest")),
)
SEGMENTS = (
    get("/", 404),
    get("/v1", 404),
    get("/V1/shelves", 404),
    get("/v1/shelves/a/themes/b", seen("GetTheme", name="a", theme="b")),
    get("/v1/volumes/a/books/b", seen("GetVolume", name="volumes/a/books/b")),
    get("/v1/volumes/a/books", 404),
    get("/v1/volumes/a/books/b/c", 404),
    get("/v1/paths/a/x/y", seen("GetPath", shelf={"name": "a/x/y"})),
    get("/v1/paths/a/x/y/z/w", seen("GetPath", shelf={"name": "a/x/y/z/w"})),
    get("/v1/paths/a/x/n", 404),
    get("/v1/files", seen("GetFile")),
    get("/v1/files/a", seen("GetFile", name="a")),
    get("/v1/files/a/b/c", seen("GetFile", name="a/b/c")),
    get("/v1/histories/a/b/log/last", seen("GetHistory", name="a/b")),
    get("/v1/histories/a/log/last/log/last", seen("GetHistory", name="a/log/last")),
    get("/v1/histories/a/log", 404),
    get("/v1/histories/log/last", seen("GetHistory"), envoy=404, because="zero-segments"),
    get("/v1/stars/x/a/end", seen("GetStars", name="a")),
    get("/v1/rest", seen("GetStars")),
    get("/v1/rest/a/b", seen("GetStars")),
    # Slashes too many.
    get("/v1/shelves/", 404, envoy=seen("ListShelves"), because="trailing-slash"),
    get("/v1/shelves//", 404, envoy=seen("ListShelves"), because="trailing-slash"),
    get("/v1/shelves/a/", 404, envoy=seen("GetShelf", name="a"), because="trailing-slash"),
    # `**` matches the empty segment that a slash at the end begins.
    get(
        "/v1/order/a/",
        seen("GetRest", name="a/"),
        envoy=seen("GetOne", name="a"),
        because="trailing-slash",
    ),
    get("/v1/files/", seen("GetFile")),
    get(
        "/v1/files/a/",
        seen("GetFile", name="a/"),
        envoy=seen("GetFile", name="a"),
        because="trailing-slash",
    ),
    get("/v1/scalars/int32/", 404),
    get("//v1/shelves", 404),
    get("/v1//shelves", 404),
    get("/v1/shelves/a//themes/b", 404),
    get("/v1/shelves//themes/b", 404, envoy=seen("GetTheme", theme="b"), because="empty-segment"),
    get("/v1/stars//a/end", 404, envoy=seen("GetStars", name="a"), because="empty-segment"),
    get("/v1/files/a//b", seen("GetFile", name="a//b")),
    get("/v1/files//a", seen("GetFile", name="/a")),
    # Dots are names here; who removes them does so before.
    get("/v1/shelves/..", seen("GetShelf", name="..")),
    get("/v1/shelves/%2E%2E", seen("GetShelf", name="..")),
    get("/v1/shelves/../shelves", 404),
)
VERBS = (
    send("/v1/shelves/a:archive", "{}", seen("ArchiveShelf", name="a")),
    send("/v1/shelves:archive", "{}", seen("ArchiveShelves")),
    get("/v1/shelves/a:peek", seen("PeekShelf", name="a")),
    get("/v1/shelves/a:peek:peek", seen("PeekShelf", name="a:peek")),
    get("/v1/shelves/a:b:peek", seen("PeekShelf", name="a:b")),
    get("/v1/shelves/a:other", seen("GetShelf", name="a:other")),
    get("/v1/shelves/a:", seen("GetShelf", name="a:")),
    get("/v1/shelves/a%3Apeek", seen("GetShelf", name="a:peek")),
    get("/v1/shelves/a:peek/themes/b", seen("GetTheme", name="a:peek", theme="b")),
    get("/v1/shelves:peek", 404),
    send("/v1/files/a/b:purge", "{}", seen("PurgeFile", name="a/b")),
    send("/v1/files/a:b/c:purge", "{}", seen("PurgeFile", name="a:b/c")),
    send("/v1/files:purge", "{}", seen("PurgeFile")),
    get(
        "/v1/shelves/a:archive", seen("GetShelf", name="a:archive"), envoy=404, because="other-verb"
    ),
    get("/v1/files/a:purge", seen("GetFile", name="a:purge"), envoy=404, because="other-verb"),
    get("/v1/shelves/:peek", seen("GetShelf", name=":peek"), envoy=404, because="other-verb"),
)
ESCAPES = (
    get("/v1/shelves/a%2Fb", seen("GetShelf", name="a/b")),
    get("/v1/shelves/a%2fb", seen("GetShelf", name="a/b")),
    get("/v1/files/a%2Fb/c%20d", seen("GetFile", name="a%2Fb/c d")),
    get("/v1/files/a%2fb", seen("GetFile", name="a%2fb")),
    get("/v1/volumes/a%2Fc/books/b", seen("GetVolume", name="volumes/a%2Fc/books/b")),
    get("/v1/paths/a/x/y/z%2Fw", seen("GetPath", shelf={"name": "a/x/y/z%2Fw"})),
    get("/v1/files/a%3Ab%40c%3Fd%23", seen("GetFile", name="a:b@c?d#")),
    get("/v1/shelves/%25", seen("GetShelf", name="%")),
    get("/v1/shelves/%252F", seen("GetShelf", name="%2F")),
    get("/v1/files/%252F", seen("GetFile", name="%2F")),
    get("/v1/shelves/%C3%A9", seen("GetShelf", name="é")),
    get("/v1/shelves/%20", seen("GetShelf", name=" ")),
    get("/v1/shelves/a+b", seen("GetShelf", name="a+b")),
    get("/v1/shelves/a%2Bb", seen("GetShelf", name="a+b")),
    get("/v1/shelves/a;b=c,d", seen("GetShelf", name="a;b=c,d")),
    get("/v1/shelves%2Fa", 404),
    get("/v1/shelves/%zz", 400, envoy=seen("GetShelf", name="%zz"), because="malformed-escape"),
    get("/v1/shelves/a%", 400, envoy=seen("GetShelf", name="a%"), because="malformed-escape"),
    get("/v1/shelves/a%2", 400, envoy=seen("GetShelf", name="a%2"), because="malformed-escape"),
    get("/v1/rest/%zz", 400, envoy=seen("GetStars"), because="malformed-escape"),
    get("/v1/shelves/%00", 400, envoy=seen("GetShelf", name="\0"), because="nul"),
    get("/v1/shelves/%FF", 400, envoy=500, because="utf-8"),
    get("/v1/a~b/c!d", seen("GetLiteral")),
    get("/v1/a%7Eb/c!d", seen("GetLiteral"), envoy=404, because="literal-escape"),
    get("/v1/a~b/c%21d", seen("GetLiteral"), envoy=404, because="literal-escape"),
    get("/v1/shelve%73", seen("ListShelves"), envoy=404, because="literal-escape"),
)


def _scalar(kind: str, text: str, value: object) -> Case:
    return get(f"/v1/scalars/{kind}/{text}", seen("GetScalars", **{_FIELDS[kind]: value}))


_FIELDS = {
    "double": "aDouble",
    "float": "aFloat",
    "int32": "anInt32",
    "int64": "anInt64",
    "uint32": "aUint32",
    "uint64": "aUint64",
    "sint32": "aSint32",
    "sint64": "aSint64",
    "fixed32": "aFixed32",
    "fixed64": "aFixed64",
    "sfixed32": "aSfixed32",
    "sfixed64": "aSfixed64",
    "bool": "aBool",
    "string": "aString",
    "bytes": "aBytes",
    "mood": "aMood",
}


def _lax(kind: str, text: str, value: object, because: str) -> Case:
    """Return a text that Envoy alone takes."""
    taken = seen("GetScalars", **{_FIELDS[kind]: value})
    return get(f"/v1/scalars/{kind}/{text}", 400, envoy=taken, because=because)


def _more(kind: str, text: str, value: object, because: str) -> Case:
    """Return a text that only ours takes."""
    taken = seen("GetScalars", **{_FIELDS[kind]: value})
    return get(f"/v1/scalars/{kind}/{text}", taken, envoy=400, because=because)


def _refused(kind: str, *texts: str) -> tuple[Case, ...]:
    return tuple(get(f"/v1/scalars/{kind}/{text}", 400) for text in texts)


SCALARS = (
    _scalar("double", "-1e3", -1000),
    _scalar("double", "1.5", 1.5),
    _scalar("double", "NaN", "NaN"),
    _scalar("double", "-Infinity", "-Infinity"),
    *_refused("double", "nan", "inf", "1e999", "x", "1_000", "%201", "true"),
    _lax("double", "0x10", 16, "number"),
    _lax("double", ".5", 0.5, "number"),
    _lax("double", "+1", 1, "number"),
    _scalar("float", "0.1", 0.1),
    *_refused("float", "3.5e38"),
    _more("float", "-3.4028235e38", -3.4028234663852886e38, "float-limit"),
    _scalar("int32", "2147483647", 2147483647),
    _scalar("int32", "-2147483648", -2147483648),
    _scalar("int32", "-0", 0),
    _scalar("int32", "007", 7),
    *_refused("int32", "2147483648", "%201", "1.5", "0x1", "%D9%A1", "true"),
    _lax("int32", "+1", 1, "number"),
    _more("int32", "1.0", 1, "integer"),
    _more("int32", "1e2", 100, "integer"),
    _scalar("int64", "9223372036854775807", "9223372036854775807"),
    _scalar("int64", "-9223372036854775808", "-9223372036854775808"),
    *_refused("int64", "9223372036854775808"),
    _scalar("uint32", "4294967295", 4294967295),
    *_refused("uint32", "4294967296", "-1"),
    _scalar("uint64", "18446744073709551615", "18446744073709551615"),
    *_refused("uint64", "18446744073709551616", "-1"),
    _scalar("sint32", "-1", -1),
    _scalar("sint64", "-1", "-1"),
    _scalar("fixed32", "4294967295", 4294967295),
    _scalar("fixed64", "18446744073709551615", "18446744073709551615"),
    _scalar("sfixed32", "-2147483648", -2147483648),
    _scalar("sfixed64", "-9223372036854775808", "-9223372036854775808"),
    _scalar("bool", "true", True),
    _scalar("bool", "false", False),
    _lax("bool", "True", True, "bool"),
    _lax("bool", "1", True, "bool"),
    _lax("bool", "0", False, "bool"),
    _lax("bool", "yes", True, "bool"),
    _scalar("string", "null", "null"),
    _scalar("string", "%22a%22", '"a"'),
    _scalar("bytes", "AQI=", "AQI="),
    _scalar("bytes", "AQI", "AQI="),
    _scalar("bytes", "-_8", "+/8="),
    _scalar("bytes", "+%2F8=", "+/8="),
    _scalar("bytes", "AR==", "AQ=="),
    *_refused("bytes", "A", "A*==", "AQ===", "AQ="),
    _scalar("mood", "MOOD_MERRY", "MOOD_MERRY"),
    _scalar("mood", "1", "MOOD_MERRY"),
    *_refused("mood", "mood_merry", "NOPE", "4294967297"),
    _more("mood", "99", 99, "open-enum"),
    _more("mood", "-1", -1, "open-enum"),
    _more("mood", "1.0", "MOOD_MERRY", "integer"),
    get("/v1/dotted/s/7", seen("GetDotted", shelf={"name": "s"}, scalars={"anInt32": 7})),
    get("/v1/dotted/s/x", 400),
)
CASES: tuple[Case, ...] = (*METHODS, *PRECEDENCE, *SEGMENTS, *VERBS, *ESCAPES, *SCALARS)
