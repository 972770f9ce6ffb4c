"""The differences from Envoy, each with the rule that decides it; docs/transcoding.md has them."""

from collections.abc import Mapping
from types import MappingProxyType

_HTTP_PROTO = "google/api/http.proto"
_PROTO_JSON = "the JSON mapping of protobuf"

# The name of each difference in the cases, and one or two sentences about it. All are here.
DIFFERENCES: Mapping[str, str] = MappingProxyType(
    {
        # Routing
        "method-not-allowed": (
            "If a path has other methods, the response is 405 with Allow"
            " (RFC 9110 section 15.5.6), also for an unknown method."
        ),
        "head": (
            "HEAD is answered as GET without the content (RFC 9110 section 9.3.2),"
            " even if another rule is for any method."
        ),
        "options": "OPTIONS is answered with the methods of the path (RFC 9110 section 9.3.7).",
        "trailing-slash": (
            f"A template matches segment by segment ({_HTTP_PROTO}). A trailing slash begins one"
            " more segment, which is empty (RFC 3986 section 3.3); only `**` matches it."
        ),
        "empty-segment": (
            f"`*` matches one segment of the path ({_HTTP_PROTO}). An empty segment names no"
            " resource; only `**` matches it."
        ),
        "zero-segments": (
            f"`**` matches zero or more segments ({_HTTP_PROTO}), also before literals."
        ),
        "other-verb": (
            "A colon begins a verb only if a rule that serves the request has that verb."
            " Otherwise it belongs to the segment (RFC 3986 section 3.3)."
        ),
        "literal-escape": (
            "An escaped character of a literal equals that character: unreserved ones by"
            f" RFC 3986 section 6.2.2.2, reserved ones by {_HTTP_PROTO}."
        ),
        # Texts in path and query
        "malformed-escape": (
            "A percent sign begins an escape of two hexadecimal digits"
            " (RFC 3986 section 2.1). A malformed escape is refused, not guessed."
        ),
        "utf-8": (
            "A string is UTF-8, and other bytes are refused. Envoy sends them to the service,"
            " which then seems to be at fault."
        ),
        "nul": (
            "NUL is refused in a path: it names nothing, and C code reads it as the end of the"
            " name (RFC 3986 section 7.3)."
        ),
        "depth": (
            "Messages nest at most 100 deep, the limit of protobuf's parsers. Envoy sends the"
            " service messages that it cannot read."
        ),
        "number": (
            f"A number has the grammar of JSON ({_PROTO_JSON}): no plus sign, no hexadecimal"
            " digits, a digit before the point."
        ),
        "integer": (
            "Exponents and zeros after the point are accepted if the value is an integer"
            f" ({_PROTO_JSON}), also in a string."
        ),
        "exact": (
            "An integer keeps its exact value instead of the nearest double:"
            " JSON does not limit numbers (RFC 8259 section 6)."
        ),
        "float-limit": (
            "A value that rounds to the largest float is that float, in text as in a JSON number;"
            " Envoy refuses it in text."
        ),
        "bool": f"A bool is true or false, and in a JSON body never a string ({_PROTO_JSON}).",
        "open-enum": (
            "The enums of proto3 are open: a number without a name is kept, in text as in"
            f" a JSON body ({_PROTO_JSON})."
        ),
        "enum-text": f"A JSON string is the name of an enum value, not its number ({_PROTO_JSON}).",
        "base64": (
            "Standard and URL-safe base64 are accepted, with or without padding"
            f" ({_PROTO_JSON}); anything else is refused."
        ),
        "known-text": (
            f"A well-known type has one form in JSON ({_PROTO_JSON}), which is the only one"
            " everywhere; its fields are refused."
        ),
        "quoted": "The text of a well-known type may be quoted, as in JSON.",
        "null-text": f"The JSON of a NullValue is null ({_PROTO_JSON}), also as text.",
        "json-text": (
            "In a query, Struct, Value and ListValue are JSON text; Envoy makes a string of"
            " any Value."
        ),
        # Queries
        "duplicate": (
            f"A singular field is given once: only repeated fields are repeated ({_HTTP_PROTO})."
            " Two readers could read duplicates differently, so they are refused."
        ),
        "no-value": (
            "A parameter without an equals sign has the empty value"
            " (WHATWG URL, application/x-www-form-urlencoded parsing); Envoy drops it."
        ),
        "no-name": "The empty name is a name too (WHATWG URL, as above), and no field has it.",
        "system-parameter": (
            "A name that begins with a dollar sign is a system parameter"
            " (cloud.google.com/apis/docs/system-parameters), unless a field has it."
        ),
        "escaped-dot": "A name is decoded before it is read (WHATWG URL, as above).",
        "repeated-message": (
            f"Query parameters cannot give a repeated message ({_HTTP_PROTO});"
            " Envoy adds one message."
        ),
        "bound-by-path": (
            "The query and the body give only fields that the path does not give"
            f" ({_HTTP_PROTO}), so a proxy that checks the path can rely on it."
        ),
        "bound-by-body": (
            f"The query gives only fields that the body does not give ({_HTTP_PROTO})."
        ),
        "body-is-all": (
            'With body "*" there are no query parameters: the body gives every field that the path'
            f" does not give ({_HTTP_PROTO})."
        ),
        # Bodies
        "body-without-rule": (
            f"If the rule has no body, the request has none ({_HTTP_PROTO});"
            " Envoy binds one anyway."
        ),
        "no-body": (
            "Without a body, the field for it has no value, whatever its type;"
            " Envoy reads an empty object."
        ),
        "number-body": (
            "A number alone is a JSON text (RFC 8259 section 2);"
            " Envoy waits for more until the client gives up."
        ),
        "media-type": (
            "A body is read as its Content-Type says, or refused (415, RFC 9110 section 15.5.16)."
        ),
        "accept": "A client that accepts no JSON gets 406 (RFC 9110 section 15.5.7).",
        "no-media-type": (
            "An HttpBody without a media type has none (google/api/httpbody.proto);"
            " Envoy calls an empty one JSON."
        ),
        "split-header": (
            "A media type must be a valid header field value (RFC 9110 section 5.5), or the"
            " service is at fault. Envoy writes what follows a line break as another header field."
        ),
        "form": "Forms are read too, by the rules for queries.",
        "syntax": (
            "JSON follows RFC 8259: no comma before a bracket, names in double quotes, no control"
            " characters, no other escapes, a digit after the point."
        ),
        "unknown-member": (
            f"A member without a field is refused ({_PROTO_JSON}: parsers reject unknown fields"
            " by default); Envoy cannot do that."
        ),
        "repeated-member": (
            "A name is unique in its object (RFC 8259 section 4), a field is given by one of its"
            " names, and a map key once."
        ),
        "list": f"A list is a JSON array, never another value ({_PROTO_JSON}).",
        "null-element": f"null is not an element of a list or map ({_PROTO_JSON}).",
        "null": f"The only value of NullValue is null ({_PROTO_JSON}).",
        "duration": "A duration has digits after its point and no plus sign, as it is printed.",
        "mask": (
            f"A path of a FieldMask is in camel case ({_PROTO_JSON}), without spaces around it, and"
            " not empty; an underscore would be printed as another name."
        ),
        "leap-second": (
            "google/protobuf/timestamp.proto has no leap seconds: no second of a minute is 60."
        ),
        "any-domain": (
            "The name of a type is the text after the last slash (google/protobuf/any.proto);"
            " the text before it does not matter."
        ),
    }
)
