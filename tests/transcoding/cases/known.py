"""Cases of what a JSON body says of the well-known types."""

from tests.transcoding.cases.case import Case
from tests.transcoding.cases.messages import Posts

_KNOWN = Posts("CreateKnown")
_TYPES = "type.googleapis.com"


def _time(text: str, *, printed: str = "") -> Case:
    return _KNOWN.both(f'{{"aTimestamp":"{text}"}}', {"aTimestamp": printed or text})


def _no_times(*texts: str) -> tuple[Case, ...]:
    return _KNOWN.refused(*(f'{{"aTimestamp":"{text}"}}' for text in texts))


TIMES = (
    _time("1972-01-01T10:00:20.021Z"),
    _time("2020-01-01T00:00:00.123456789Z"),
    _time("2020-01-01T00:00:00+01:30", printed="2019-12-31T22:30:00Z"),
    _time("2020-01-01T00:00:00-00:00", printed="2020-01-01T00:00:00Z"),
    _time("0001-01-01T00:00:00Z"),
    _time("9999-12-31T23:59:59.999999999Z"),
    _time("1969-12-31T23:59:59.5Z", printed="1969-12-31T23:59:59.500Z"),
    *_no_times("2020-01-01T00:00:00.1234567891Z", "2020-01-01t00:00:00z", "2020-01-01 00:00:00Z"),
    *_no_times("2020-01-01T00:00:00", "2020-01-01T00:00:00+0130", "0000-12-31T23:59:59Z"),
    *_no_times("9999-12-31T23:59:59-01:00", "10000-01-01T00:00:00Z", "2020-02-30T00:00:00Z"),
    *_no_times("2020-01-01T24:00:00Z", ""),
    _KNOWN.lax(
        "leap-second",
        '{"aTimestamp":"2020-06-30T23:59:60Z"}',
        {"aTimestamp": "2020-07-01T00:00:00Z"},
    ),
    _KNOWN.lax(
        "known-text", '{"aTimestamp":{"seconds":5}}', {"aTimestamp": "1970-01-01T00:00:05Z"}
    ),
    *_KNOWN.refused('{"aTimestamp":5}'),
    _KNOWN.both('{"aTimestamp":null}', {}),
)


def _duration(text: str, *, printed: str = "") -> Case:
    return _KNOWN.both(f'{{"aDuration":"{text}"}}', {"aDuration": printed or text})


def _no_durations(*texts: str) -> tuple[Case, ...]:
    return _KNOWN.refused(*(f'{{"aDuration":"{text}"}}' for text in texts))


DURATIONS = (
    _duration("0s"),
    _duration("-0.5s", printed="-0.500s"),
    _duration("1.000000001s"),
    _duration("315576000000s"),
    *_no_durations("315576000001s", "1.0000000001s", "1", "s", ".5s", "1h", "1e3s", ""),
    _KNOWN.lax("duration", '{"aDuration":"1.s"}', {"aDuration": "1s"}),
    _KNOWN.lax("duration", '{"aDuration":"+1s"}', {"aDuration": "1s"}),
    *_KNOWN.refused('{"aDuration":1}'),
)
MASKS = (
    _KNOWN.both('{"aMask":"a,bC.dE"}', {"aMask": "a,bC.dE"}),
    _KNOWN.both('{"aMask":""}', {"aMask": ""}),
    _KNOWN.both('{"aMask":"*"}', {"aMask": "*"}),
    _KNOWN.both('{"aMask":"*.name,labels.env-name"}', {"aMask": "*.name,labels.env-name"}),
    *_KNOWN.refused('{"aMask":["a"]}'),
    _KNOWN.lax("mask", '{"aMask":"a_b"}', {"aMask": "aB"}),
    _KNOWN.lax("mask", '{"aMask":"a,,b"}', {"aMask": "a,b"}),
    _KNOWN.lax("mask", '{"aMask":"a, b"}', {"aMask": "a, b"}),
    _KNOWN.lax("known-text", '{"aMask":{"paths":["a"]}}', {"aMask": "a"}),
)
VALUES = (
    _KNOWN.both(
        '{"aStruct":{"a":null,"b":[1,{"c":true}],"d":"x","e":{}}}',
        {"aStruct": {"a": None, "b": [1, {"c": True}], "d": "x", "e": {}}},
    ),
    _KNOWN.both('{"aStruct":{}}', {"aStruct": {}}),
    _KNOWN.both('{"aStruct":null}', {}),
    *_KNOWN.refused('{"aStruct":[]}', '{"aStruct":{"a":1,"a":2}}'),
    _KNOWN.both('{"aValue":null}', {"aValue": None}),
    _KNOWN.both('{"aValue":1.5}', {"aValue": 1.5}),
    _KNOWN.both('{"aValue":"NaN"}', {"aValue": "NaN"}),
    _KNOWN.both('{"aValue":[1,[2,[]]]}', {"aValue": [1, [2, []]]}),
    _KNOWN.both('{"aValue":{"a":{"b":null}}}', {"aValue": {"a": {"b": None}}}),
    *_KNOWN.refused('{"aValue":1e400}'),
    _KNOWN.both('{"aList":[1,null,"a"]}', {"aList": [1, None, "a"]}),
    *_KNOWN.refused('{"aList":1}'),
    _KNOWN.lax("list", '{"aList":{}}', {"aList": []}),
    _KNOWN.both('{"aNull":null}', {}),
    _KNOWN.both('{"aNull":"NULL_VALUE"}', {}),
    _KNOWN.both('{"aNull":0}', {}),
    _KNOWN.both('{"maybeNull":null}', {"maybeNull": None}),
    _KNOWN.lax("null", '{"aNull":1}', {}),
    *_KNOWN.refused('{"aNull":"x"}'),
)


def _any(kind: str, rest: str = "") -> str:
    return f'{{"anAny":{{"@type":"{kind}"{rest}}}}}'


ANYS = (
    _KNOWN.both(
        _any(f"{_TYPES}/library.v1.Shelf", ',"name":"a"'),
        {"anAny": {"@type": f"{_TYPES}/library.v1.Shelf", "name": "a"}},
    ),
    _KNOWN.both(
        f'{{"anAny":{{"name":"a","@type":"{_TYPES}/library.v1.Shelf"}}}}',
        {"anAny": {"@type": f"{_TYPES}/library.v1.Shelf", "name": "a"}},
    ),
    _KNOWN.both(
        _any(f"{_TYPES}/google.protobuf.Duration", ',"value":"1.5s"'),
        {"anAny": {"@type": f"{_TYPES}/google.protobuf.Duration", "value": "1.500s"}},
    ),
    _KNOWN.both(
        _any(f"{_TYPES}/google.protobuf.Int64Value", ',"value":5'),
        {"anAny": {"@type": f"{_TYPES}/google.protobuf.Int64Value", "value": "5"}},
    ),
    _KNOWN.both(
        _any(f"{_TYPES}/google.protobuf.Struct", ',"value":{"a":1}'),
        {"anAny": {"@type": f"{_TYPES}/google.protobuf.Struct", "value": {"a": 1}}},
    ),
    _KNOWN.both(
        _any(f"{_TYPES}/google.protobuf.Empty"),
        {"anAny": {"@type": f"{_TYPES}/google.protobuf.Empty"}},
    ),
    _KNOWN.both('{"anAny":{}}', {"anAny": {}}),
    _KNOWN.both('{"anAny":null}', {}),
    *_KNOWN.refused(
        _any(f"{_TYPES}/nope.Nope"), _any("library.v1.Shelf"), '{"anAny":{"name":"a"}}'
    ),
    *_KNOWN.refused('{"anAny":{"@type":5}}', '{"anAny":[]}'),
    *_KNOWN.refused(_any(f"{_TYPES}/google.protobuf.Duration", ',"value":"1s","x":1')),
    _KNOWN.more(
        "any-domain",
        _any("example.test/library.v1.Shelf", ',"name":"a"'),
        {"anAny": {"@type": "example.test/library.v1.Shelf", "name": "a"}},
    ),
    # As Go writes it.
    _KNOWN.both(
        _any(f"{_TYPES}/google.protobuf.Empty", ',"value":{}'),
        {"anAny": {"@type": f"{_TYPES}/google.protobuf.Empty"}},
    ),
    _KNOWN.lax(
        "unknown-member",
        _any(f"{_TYPES}/google.protobuf.Empty", ',"value":1'),
        {"anAny": {"@type": f"{_TYPES}/google.protobuf.Empty"}},
    ),
    _KNOWN.lax(
        "unknown-member",
        _any(f"{_TYPES}/library.v1.Shelf", ',"nope":1'),
        {"anAny": {"@type": f"{_TYPES}/library.v1.Shelf"}},
    ),
)
WRAPPERS = (
    _KNOWN.both(
        '{"aDouble":1.5,"aFloat":"NaN","anInt64":5,"aUint64":"5","anInt32":5,"aUint32":5}',
        {
            "aDouble": 1.5,
            "aFloat": "NaN",
            "anInt64": "5",
            "aUint64": "5",
            "anInt32": 5,
            "aUint32": 5,
        },
    ),
    _KNOWN.both(
        '{"aBool":false,"aString":"","someBytes":"AQ"}',
        {"aBool": False, "aString": "", "someBytes": "AQ=="},
    ),
    _KNOWN.both('{"aDouble":null,"aString":null}', {}),
    _KNOWN.lax("known-text", '{"anInt64":{"value":5}}', {"anInt64": "5"}),
    _KNOWN.lax("bool", '{"aBool":"true"}', {"aBool": True}),
    _KNOWN.both('{"anEmpty":{}}', {"anEmpty": {}}),
    _KNOWN.lax("unknown-member", '{"anEmpty":{"a":1}}', {"anEmpty": {}}),
    *_KNOWN.refused('{"anEmpty":[]}'),
)
CASES: tuple[Case, ...] = (*TIMES, *DURATIONS, *MASKS, *VALUES, *ANYS, *WRAPPERS)
