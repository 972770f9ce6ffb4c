"""Cases of what a JSON body says of scalars, lists, maps and oneofs."""

from collections.abc import Mapping

from tests.transcoding.cases.case import Case, Outcome, Seen, send

_PATHS = {
    "CreateScalars": "/v1/scalars",
    "CreateOptionals": "/v1/optionals",
    "CreateLists": "/v1/lists",
    "CreateMaps": "/v1/maps",
    "CreateChoice": "/v1/choices",
    "CreateKnown": "/v1/known",
}


class Posts:
    """Requests with a body for one method, whose messages are written as JSON."""

    def __init__(self, method: str) -> None:
        self._method = method

    def both(self, body: str, message: Mapping[str, object]) -> Case:
        """Return a body that both take for `message`."""
        taken = self._seen(message)
        return self._apart("", body, taken, taken)

    def refused(self, *bodies: str) -> tuple[Case, ...]:
        """Return bodies that both refuse."""
        return tuple(self._apart("", body, 400, 400) for body in bodies)

    def lax(self, because: str, body: str, message: Mapping[str, object]) -> Case:
        """Return a body that Envoy alone takes, for `message`."""
        return self._apart(because, body, 400, self._seen(message))

    def more(self, because: str, body: str, message: Mapping[str, object]) -> Case:
        """Return a body that only ours takes, for `message`."""
        return self._apart(because, body, self._seen(message), 400)

    def other(
        self, because: str, body: str, ours: Mapping[str, object], envoy: Mapping[str, object]
    ) -> Case:
        """Return a body that both take, for different messages."""
        return self._apart(because, body, self._seen(ours), self._seen(envoy))

    def _seen(self, message: Mapping[str, object]) -> Seen:
        return Seen(method=self._method, message=message)

    def _apart(self, because: str, body: str, ours: Outcome, envoy: Outcome) -> Case:
        return send(_PATHS[self._method], body, ours, envoy=envoy, because=because)


_SCALARS = Posts("CreateScalars")
NUMBERS = (
    _SCALARS.both(
        '{"anInt32":2147483647,"aSint32":-2147483648}',
        {"anInt32": 2147483647, "aSint32": -2147483648},
    ),
    _SCALARS.both('{"anInt32":"5"}', {"anInt32": 5}),
    _SCALARS.both('{"anInt32":5.0}', {"anInt32": 5}),
    _SCALARS.both('{"anInt32":1e2}', {"anInt32": 100}),
    _SCALARS.both('{"anInt32":-0}', {}),
    _SCALARS.both('{"anInt32":null}', {}),
    _SCALARS.more("integer", '{"anInt32":"5.0"}', {"anInt32": 5}),
    _SCALARS.more("integer", '{"anInt32":"1e2"}', {"anInt32": 100}),
    _SCALARS.lax("number", '{"anInt32":"+5"}', {"anInt32": 5}),
    *_SCALARS.refused('{"anInt32":2147483648}', '{"anInt32":1.5}', '{"anInt32":" 5"}'),
    *_SCALARS.refused('{"anInt32":""}', '{"anInt32":true}', '{"anInt32":[]}', '{"anInt32":{}}'),
    *_SCALARS.refused('{"anInt32":007}', '{"anInt32":0x10}', '{"anInt32":+1}'),
    _SCALARS.both('{"anInt64":9223372036854775807}', {"anInt64": "9223372036854775807"}),
    _SCALARS.both('{"anInt64":"-9223372036854775808"}', {"anInt64": "-9223372036854775808"}),
    _SCALARS.both('{"anInt64":9007199254740993}', {"anInt64": "9007199254740993"}),
    _SCALARS.both('{"anInt64":1e18}', {"anInt64": "1000000000000000000"}),
    _SCALARS.other(
        "exact",
        '{"anInt64":9007199254740993.0}',
        {"anInt64": "9007199254740993"},
        {"anInt64": "9007199254740992"},
    ),
    *_SCALARS.refused('{"anInt64":9223372036854775808}', '{"aDouble":' + "1" * 400 + "}"),
    _SCALARS.both('{"aUint64":18446744073709551615}', {"aUint64": "18446744073709551615"}),
    *_SCALARS.refused('{"aUint64":"18446744073709551616"}', '{"aUint64":-1}'),
    _SCALARS.both('{"aUint32":4294967295}', {"aUint32": 4294967295}),
    *_SCALARS.refused('{"aUint32":4294967296}'),
    _SCALARS.both(
        '{"aFixed64":"18446744073709551615","aSfixed64":"-1"}',
        {"aFixed64": "18446744073709551615", "aSfixed64": "-1"},
    ),
    _SCALARS.both('{"aDouble":1.7976931348623157e308}', {"aDouble": 1.7976931348623157e308}),
    _SCALARS.both('{"aDouble":5e-324}', {"aDouble": 5e-324}),
    _SCALARS.both('{"aDouble":1e-400}', {}),
    _SCALARS.both('{"aDouble":-0.0}', {"aDouble": -0.0}),
    _SCALARS.both('{"aDouble":-0}', {"aDouble": -0.0}),
    _SCALARS.both('{"aDouble":"1.5"}', {"aDouble": 1.5}),
    _SCALARS.both('{"aDouble":"NaN"}', {"aDouble": "NaN"}),
    _SCALARS.both(
        '{"aDouble":"Infinity","aFloat":"-Infinity"}',
        {"aDouble": "Infinity", "aFloat": "-Infinity"},
    ),
    *_SCALARS.refused('{"aDouble":1.8e308}', '{"aDouble":NaN}', '{"aDouble":Infinity}'),
    *_SCALARS.refused('{"aDouble":"inf"}', '{"aDouble":"nan"}', '{"aDouble":true}'),
    *_SCALARS.refused('{"aDouble":.5}'),
    _SCALARS.lax("syntax", '{"aDouble":1.}', {"aDouble": 1}),
    _SCALARS.both('{"aFloat":0.1}', {"aFloat": 0.1}),
    _SCALARS.both('{"aFloat":3.4e38}', {"aFloat": 3.4e38}),
    _SCALARS.both('{"aFloat":1e-50}', {}),
    *_SCALARS.refused('{"aFloat":3.5e38}'),
)
OTHERS = (
    _SCALARS.both('{"aBool":true}', {"aBool": True}),
    *_SCALARS.refused('{"aBool":1}'),
    _SCALARS.lax("bool", '{"aBool":"true"}', {"aBool": True}),
    _SCALARS.lax("bool", '{"aBool":"1"}', {"aBool": True}),
    _SCALARS.both(r'{"aString":"\u00e9\ud83d\ude00\n"}', {"aString": "é😀\n"}),
    _SCALARS.both(r'{"aString":"\u0000"}', {"aString": "\0"}),
    *_SCALARS.refused(r'{"aString":"\ud800"}', '{"aString":1}', '{"aString":["a"]}'),
    _SCALARS.lax("syntax", '{"aString":"a\tb"}', {"aString": "a\tb"}),
    _SCALARS.lax("syntax", r'{"aString":"\x"}', {"aString": "x"}),
    _SCALARS.both('{"aBytes":"+/8="}', {"aBytes": "+/8="}),
    _SCALARS.both('{"aBytes":"-_8"}', {"aBytes": "+/8="}),
    _SCALARS.more("base64", '{"aBytes":"+_8"}', {"aBytes": "+/8="}),
    _SCALARS.lax("base64", '{"aBytes":"AQ= ="}', {"aBytes": "AQ=="}),
    *_SCALARS.refused('{"aBytes":"A"}', '{"aBytes":"A Q="}', '{"aBytes":1}'),
    _SCALARS.both('{"aMood":"MOOD_MERRY"}', {"aMood": "MOOD_MERRY"}),
    _SCALARS.both('{"aMood":1}', {"aMood": "MOOD_MERRY"}),
    _SCALARS.both('{"aMood":1.0}', {"aMood": "MOOD_MERRY"}),
    _SCALARS.both('{"aMood":99}', {"aMood": 99}),
    *_SCALARS.refused('{"aMood":"99"}', '{"aMood":"NOPE"}', '{"aMood":"mood_merry"}'),
    *_SCALARS.refused('{"aMood":1.5}', '{"aMood":true}', '{"aMood":2147483648}'),
    _SCALARS.lax("enum-text", '{"aMood":"1"}', {"aMood": "MOOD_MERRY"}),
)
_OPTIONALS = Posts("CreateOptionals")
MEMBERS = (
    _SCALARS.both('{"a_string":"x"}', {"aString": "x"}),
    _SCALARS.lax("unknown-member", '{"nope":1}', {}),
    *_SCALARS.refused('{"":1}'),
    _SCALARS.lax("repeated-member", '{"aString":"a","aString":"b"}', {"aString": "b"}),
    _SCALARS.lax("repeated-member", '{"aString":"a","a_string":"b"}', {"aString": "b"}),
    _OPTIONALS.both("{}", {}),
    _OPTIONALS.both('{"aString":null}', {}),
    _OPTIONALS.both(
        '{"aBool":false,"aMood":0,"aBytes":"","aDouble":0}',
        {"aBool": False, "aMood": "MOOD_UNSPECIFIED", "aBytes": "", "aDouble": 0},
    ),
)
_LISTS = Posts("CreateLists")
LISTS = (
    _LISTS.both('{"int32s":[1,"2",3.0]}', {"int32s": [1, 2, 3]}),
    _LISTS.both('{"int32s":[]}', {}),
    _LISTS.both('{"int32s":null}', {}),
    _LISTS.both('{"moods":["MOOD_MERRY",1,99]}', {"moods": ["MOOD_MERRY", "MOOD_MERRY", 99]}),
    _LISTS.both('{"shelves":[{"name":"a"},{}]}', {"shelves": [{"name": "a"}, {}]}),
    _LISTS.both('{"times":["2020-01-01T00:00:00Z"]}', {"times": ["2020-01-01T00:00:00Z"]}),
    _LISTS.both('{"values":[null,1,"a",[],{},true]}', {"values": [None, 1, "a", [], {}, True]}),
    _LISTS.both('{"nulls":[null,"NULL_VALUE"]}', {"nulls": ["NULL_VALUE", "NULL_VALUE"]}),
    *_LISTS.refused('{"int32s":{}}', '{"shelves":["a"]}', '{"int32s":["x"]}'),
    _LISTS.lax("null-element", '{"int32s":[null]}', {}),
    _LISTS.lax("null-element", '{"shelves":[null]}', {}),
    _LISTS.lax("null-element", '{"stringValues":["a",null]}', {"stringValues": ["a"]}),
    _LISTS.lax("list", '{"int32s":1}', {"int32s": [1]}),
    _LISTS.lax("list", '{"int32s":[[1]]}', {"int32s": [1]}),
    _LISTS.lax("list", '{"shelves":{"name":"a"}}', {"shelves": [{"name": "a"}]}),
    _LISTS.lax("syntax", '{"int32s":[1,]}', {"int32s": [1]}),
    _LISTS.lax("repeated-member", '{"int32s":[1],"int32s":[2]}', {"int32s": [1, 2]}),
)
_MAPS = Posts("CreateMaps")
MAPS = (
    _MAPS.both('{"strings":{"":"x","a":"y"}}', {"strings": {"": "x", "a": "y"}}),
    _MAPS.both('{"strings":null}', {}),
    _MAPS.both(
        '{"int32s":{"-1":1},"int64s":{"9223372036854775807":1.5}}',
        {"int32s": {"-1": "1"}, "int64s": {"9223372036854775807": 1.5}},
    ),
    _MAPS.both(
        '{"uint32s":{"0":0.5},"uint64s":{"18446744073709551615":"AQ=="}}',
        {"uint32s": {"0": 0.5}, "uint64s": {"18446744073709551615": "AQ=="}},
    ),
    _MAPS.both(
        '{"bools":{"true":"MOOD_MERRY","false":2}}',
        {"bools": {"true": "MOOD_MERRY", "false": "MOOD_GLOOMY"}},
    ),
    _MAPS.both('{"shelves":{"a":{"name":"x"}}}', {"shelves": {"a": {"name": "x"}}}),
    _MAPS.both('{"values":{"a":null,"b":[1]}}', {"values": {"a": None, "b": [1]}}),
    _MAPS.both('{"maps":{"a":{"strings":{"b":"c"}}}}', {"maps": {"a": {"strings": {"b": "c"}}}}),
    _MAPS.both('{"int32s":{"01":1}}', {"int32s": {"1": "1"}}),
    *_MAPS.refused('{"int32s":{"x":1}}', '{"int32s":{"2147483648":1}}'),
    *_MAPS.refused('{"strings":[]}', '{"strings":[{"key":"a","value":"b"}]}'),
    *_MAPS.refused('{"strings":{"a":"x","a":"y"}}', '{"bools":{"":1}}'),
    _MAPS.more("integer", '{"int32s":{"1.0":1}}', {"int32s": {"1": "1"}}),
    _MAPS.lax("bool", '{"bools":{"True":1}}', {"bools": {"true": "MOOD_MERRY"}}),
    _MAPS.lax("bool", '{"bools":{"1":1}}', {"bools": {"true": "MOOD_MERRY"}}),
    _MAPS.lax("null-element", '{"strings":{"a":null}}', {"strings": {"a": ""}}),
    _MAPS.lax("null-element", '{"stringValues":{"a":null}}', {"stringValues": {"a": ""}}),
    _MAPS.lax("repeated-member", '{"int32s":{"1":1,"01":2}}', {"int32s": {"1": "2"}}),
)
_CHOICE = Posts("CreateChoice")
ONEOFS = (
    _CHOICE.both('{"byCode":0}', {"byCode": 0}),
    _CHOICE.both('{"byShelf":{}}', {"byShelf": {}}),
    _CHOICE.both('{"byTitle":"a","byCode":null}', {"byTitle": "a"}),
    _CHOICE.both('{"byTitle":null,"byCode":1}', {"byCode": 1}),
    _CHOICE.both('{"byValue":null}', {"byValue": None}),
    _CHOICE.both('{"byNothing":null}', {"byNothing": None}),
    *_CHOICE.refused('{"byTitle":"a","byCode":1}', '{"byTitle":"a","byTitle":"b"}'),
)
CASES: tuple[Case, ...] = (*NUMBERS, *OTHERS, *MEMBERS, *LISTS, *MAPS, *ONEOFS)
