"""Cases of what queries bind."""

from tests.transcoding.cases.case import Case, Outcome, get, seen, send


def _books(query: str, /, **message: object) -> Case:
    """Return a query that both take for `message`."""
    return get(f"/v1/search?{query}", seen("SearchBooks", **message))


def _refused(*queries: str) -> tuple[Case, ...]:
    return tuple(get(f"/v1/search?{query}", 400) for query in queries)


def _lax(because: str, query: str, /, **message: object) -> Case:
    """Return a query that Envoy alone takes."""
    return _apart(because, query, 400, seen("SearchBooks", **message))


def _more(because: str, query: str, /, **message: object) -> Case:
    """Return a query that only ours takes."""
    return _apart(because, query, seen("SearchBooks", **message), 400)


def _apart(because: str, query: str, ours: Outcome, envoy: Outcome) -> Case:
    return get(f"/v1/search?{query}", ours, envoy=envoy, because=because)


NAMES = (
    _books(""),
    _books("title=x", title="x"),
    _books("shelf.name=x", shelf={"name": "x"}),
    _books("shelf.shelfCode=x", shelf={"shelfCode": "x"}),
    _books("shelf.shelf_code=x", shelf={"shelfCode": "x"}),
    _books("tree.left.left.left.name=x", tree={"left": {"left": {"left": {"name": "x"}}}}),
    _books("&&title=x&", title="x"),
    _books("ti%74le=x", title="x"),
    _more("escaped-dot", "shelf%2Ename=x", shelf={"name": "x"}),
    _apart("depth", "tree." + "left." * 100 + "name=x", 400, 500),
    *_refused("nope=1", "shelf.nope=1", "title.nope=1", "Title=1", "tags[]=a"),
    _more("system-parameter", "$alt=json"),
    _more("system-parameter", "title=x&$fields=a", title="x"),
    *_refused("$alt=proto", "alt=json", "key=a", "callback=a", "access_token=a"),
    *_refused("title.=1", ".title=1", "shelf..name=1", "tags[0]=a"),
    _lax("no-value", "nope"),
    _lax("no-name", "=x"),
)
REPEATED = (
    _books("tags=a&tags=b", tags=["a", "b"]),
    _books("tags=a,b", tags=["a,b"]),
    _books("tags=&tags=", tags=["", ""]),
    _books("lists.int32s=1&title=x&lists.int32s=2", title="x", lists={"int32s": [1, 2]}),
    _books("lists.moods=MOOD_MERRY&lists.moods=2", lists={"moods": ["MOOD_MERRY", "MOOD_GLOOMY"]}),
    _books("lists.manyBytes=AQ==&lists.many_bytes=Ag", lists={"manyBytes": ["AQ==", "Ag=="]}),
    _books("lists.doubles=NaN&lists.doubles=1", lists={"doubles": ["NaN", 1]}),
    _books("lists.times=2020-01-01T00:00:00Z", lists={"times": ["2020-01-01T00:00:00Z"]}),
    _books("lists.stringValues=a&lists.stringValues=b", lists={"stringValues": ["a", "b"]}),
    *_refused("lists.int64s=1&lists.int64s=x"),
    _lax("duplicate", "title=a&title=b", title="b"),
    _lax("duplicate", "shelf.shelfCode=a&shelf.shelf_code=b", shelf={"shelfCode": "b"}),
)
VALUES = (
    _books("title=", title=""),
    _books("title=a+b", title="a b"),
    _books("title=a%2Bb", title="a+b"),
    _books("title=a%20b", title="a b"),
    _books("title=a=b", title="a=b"),
    _books("title=a;b", title="a;b"),
    _books("title=a/b?c", title="a/b?c"),
    _books("title=%C3%A9", title="é"),
    _books("title=null", title="null"),
    _books("title=%22x%22", title='"x"'),
    _books("copies=9223372036854775807", copies="9223372036854775807"),
    *_refused("copies=9223372036854775808", "copies=", "mood=", "mood=NOPE", "scalars.aBool="),
    _books("optionals.aString=", optionals={"aString": ""}),
    _books("optionals.anInt32=0", optionals={"anInt32": 0}),
    _books("mood=MOOD_MERRY", mood="MOOD_MERRY"),
    _books("mood=1", mood="MOOD_MERRY"),
    _books("scalars.aBool=true", scalars={"aBool": True}),
    _books("scalars.aBytes=-_8", scalars={"aBytes": "+/8="}),
    _books("scalars.aBytes=%2B/8=", scalars={"aBytes": "+/8="}),
    *_refused("scalars.aBytes=+/8="),
    _lax("malformed-escape", "title=%zz", title="%zz"),
    _lax("malformed-escape", "title=%", title="%"),
    _books("title=%00", title="\0"),
    _apart("utf-8", "title=%FF", 400, 500),
    _apart(
        "no-value",
        "optionals.aString",
        seen("SearchBooks", optionals={"aString": ""}),
        seen("SearchBooks"),
    ),
    _lax("no-value", "copies"),
    _lax("bool", "scalars.aBool=1", scalars={"aBool": True}),
    _lax("bool", "scalars.aBool=TRUE", scalars={"aBool": True}),
    _more("open-enum", "mood=99", mood=99),
)
KNOWN = (
    _books("printed=2020-01-01T00:00:00Z", printed="2020-01-01T00:00:00Z"),
    _books("printed=2020-01-01T00:00:00.5%2B01:00", printed="2019-12-31T23:00:00.500Z"),
    *_refused("printed=2020-01-01T00:00:00+01:00", "printed=2020-01-01", "printed="),
    _more("quoted", "printed=%222020-01-01T00:00:00Z%22", printed="2020-01-01T00:00:00Z"),
    _lax("known-text", "printed.seconds=5", printed="1970-01-01T00:00:05Z"),
    _books("known.aDuration=1.5s", known={"aDuration": "1.500s"}),
    *_refused("known.aDuration=1.5"),
    _books("known.aMask=a,bC.d", known={"aMask": "a,bC.d"}),
    _books("known.aMask=", known={"aMask": ""}),
    _books("known.aString=", known={"aString": ""}),
    _books("known.aString=null", known={"aString": "null"}),
    _lax("known-text", "known.aString.value=x", known={"aString": "x"}),
    _books("known.aString=%22x%22", known={"aString": '"x"'}),
    _books("known.anInt64=5", known={"anInt64": "5"}),
    _more("quoted", "known.anInt64=%225%22", known={"anInt64": "5"}),
    _books("known.aBool=true", known={"aBool": True}),
    _books("known.someBytes=AQ==", known={"someBytes": "AQ=="}),
    _books("known.aDouble=NaN", known={"aDouble": "NaN"}),
    _books("known.aNull=NULL_VALUE", known={}),
    _more("null-text", "known.aNull=null", known={}),
    _more("json-text", "known.aStruct=%7B%22a%22:1%7D", known={"aStruct": {"a": 1}}),
    _more("json-text", "known.aList=[1]", known={"aList": [1]}),
    _lax("json-text", "known.aValue=x", known={"aValue": "x"}),
    _apart(
        "json-text",
        "known.aValue=1",
        seen("SearchBooks", known={"aValue": 1}),
        seen("SearchBooks", known={"aValue": "1"}),
    ),
    *_refused("known.aStruct.a=1", "known.aStruct.fields.a=1", "known.aList=x", "known.anAny=x"),
)
MESSAGES = (
    *_refused("shelf=x", "shelf=", "shelves=x", "lists.shelves=a", "known.anEmpty="),
    *_refused("by_name.x=a", "byName.x.name=a", "byName[x]=a", "maps.strings.a=b"),
    _lax("repeated-message", "shelves.name=x", shelves=[{"name": "x"}]),
    _lax("repeated-message", "tree.branches.name=x", tree={"branches": [{"name": "x"}]}),
    _books("choice.byTitle=a", choice={"byTitle": "a"}),
    _books(
        "choice.byShelf.name=a&choice.byShelf.theme=b",
        choice={"byShelf": {"name": "a", "theme": "b"}},
    ),
    *_refused("choice.byTitle=a&choice.byCode=1"),
)


def _path_wins(query: str, envoy: Outcome) -> Case:
    return get(f"/v1/search/a/b?{query}", 400, envoy=envoy, because="bound-by-path")


_REST = {"shelf": {"name": "b"}}
BOUND = (
    get("/v1/search/a/b?title=x", seen("SearchIn", name="a", title="x", **_REST)),
    get(
        "/v1/search/a/b?shelf.theme=c",
        seen("SearchIn", name="a", shelf={"name": "b", "theme": "c"}),
    ),
    _path_wins("name=c", seen("SearchIn", name="c", **_REST)),
    _path_wins("name=a", seen("SearchIn", name="a", **_REST)),
    _path_wins("shelf.name=c", seen("SearchIn", name="a", shelf={"name": "c"})),
    send(
        "/v1/books?title=x",
        "{}",
        400,
        envoy=seen("CreateBook", title="x"),
        because="body-is-all",
    ),
    send("/v1/books?title=x", '{"title":"y"}', 400),
    send("/v1/books?nope=x", "{}", 400),
    send(
        "/v1/books/a/title?mood=MOOD_MERRY",
        '"x"',
        seen("PutTitle", name="a", title="x", mood="MOOD_MERRY"),
        by="PUT",
    ),
    send("/v1/books/a/title?title=y", '"x"', 400, by="PUT"),
    send(
        "/v1/books/a/title?name=y",
        '"x"',
        400,
        envoy=seen("PutTitle", name="y", title="x"),
        because="bound-by-path",
        by="PUT",
    ),
    send(
        "/v1/books/a/shelf?shelf.theme=y",
        '{"name":"x"}',
        400,
        envoy=seen("PutShelf", name="a", shelf={"name": "x", "theme": "y"}),
        because="bound-by-body",
        by="PUT",
    ),
)
CASES: tuple[Case, ...] = (*NAMES, *REPEATED, *VALUES, *KNOWN, *MESSAGES, *BOUND)
