"""Where ours differs from Envoy, and what decides it; docs/transcoding.md prints the table."""

from collections.abc import Mapping
from types import MappingProxyType

_HTTP_PROTO = "google/api/http.proto"
_PROTO_JSON = "the JSON mapping of protobuf"

# From the name that a case gives to a sentence. Every difference of a case is here, and no other.
DIFFERENCES: Mapping[str, str] = MappingProxyType(
    {
        # Routing
        "method-not-allowed": (
            "A path that has other methods is answered with 405 and Allow"
            " (RFC 9110 section 15.5.6), also for a method that nobody knows."
        ),
        "head": (
            "HEAD is answered as GET is, without the content (RFC 9110 section 9.3.2),"
            " before a rule for any method."
        ),
        "options": "OPTIONS is answered with the methods of the path (RFC 9110 section 9.3.7).",
        "trailing-slash": (
            f"A template of {_HTTP_PROTO} matches segment by segment, and the slash at the"
            " end begins one more, which may be empty (RFC 3986 section 3.3). Only `**` matches it."
        ),
        "empty-segment": (
            f"`*` stands for a segment of the path ({_HTTP_PROTO}), and an empty one"
            " names no resource; `**` may have some among others."
        ),
        "zero-segments": (
            f"`**` matches zero or more segments ({_HTTP_PROTO}), also before literals."
        ),
        "other-verb": (
            "A colon begins a verb only where a rule that serves the request has that verb;"
            " else it is part of the segment, as RFC 3986 section 3.3 has it."
        ),
        "literal-escape": (
            "An escaped character of a literal is that character: of the unreserved ones by"
            f" RFC 3986 section 6.2.2.2, of the reserved ones by {_HTTP_PROTO}."
        ),
        # Texts in path and query
        "malformed-escape": (
            "A percent sign begins an escape of two hexadecimal digits"
            " (RFC 3986 section 2.1); what is malformed is refused, not guessed."
        ),
        "utf-8": (
            "A string is UTF-8: other bytes are refused by ours, and by Envoy sent to the"
            " service, whose fault it then seems to be."
        ),
        "nul": (
            "A NUL in a path names nothing, and ends the name where it is read in C"
            " (RFC 3986 section 7.3)."
        ),
        "depth": (
            "Messages nest no deeper than the parsers of protobuf take, which is 100; Envoy"
            " sends the service what it cannot read."
        ),
        "number": (
            f"A number has the grammar of JSON ({_PROTO_JSON}): no plus sign, no hexadecimal"
            " digits, a digit before the point."
        ),
        "integer": (
            f"Exponents and zeros after the point are accepted where the value is an integer"
            f" ({_PROTO_JSON}), also within a string."
        ),
        "exact": (
            "A number that is an integer is that integer, not the double next to it:"
            " JSON sets no limit to what it can hold (RFC 8259 section 6)."
        ),
        "float-limit": (
            "What rounds to the largest float is that float, in a text as in a JSON number;"
            " Envoy refuses it in a text."
        ),
        "bool": f"A bool is true or false, and in a JSON body no string ({_PROTO_JSON}).",
        "open-enum": (
            "The enums of proto3 are open: a number without a name is kept, in a text as in"
            f" a JSON body ({_PROTO_JSON})."
        ),
        "enum-text": f"A JSON string is the name of an enum value, not its number ({_PROTO_JSON}).",
        "base64": (
            "Standard and URL-safe base64 are accepted with or without padding"
            f" ({_PROTO_JSON}), and nothing that is not base64."
        ),
        "known-text": (
            "A well-known type has one form in JSON, which stands for it everywhere"
            f" ({_PROTO_JSON}); its fields do not."
        ),
        "quoted": "The text of a well-known type may be quoted, as JSON has it.",
        "null-text": f"The JSON of a NullValue is null ({_PROTO_JSON}), also as a text.",
        "json-text": (
            "Struct, Value and ListValue are JSON, and are given as JSON text in a query;"
            " Envoy makes a string of any Value."
        ),
        # Queries
        "duplicate": (
            f"A singular field is given once ({_HTTP_PROTO} repeats repeated fields alone);"
            " what two readers could read differently is refused."
        ),
        "no-value": (
            "A parameter without an equals sign has the empty value"
            " (WHATWG URL, application/x-www-form-urlencoded parsing); Envoy drops it."
        ),
        "no-name": ("The empty name is a name too (WHATWG URL, as above), and no field has it."),
        "escaped-dot": "A name is decoded before it is read (WHATWG URL, as above).",
        "repeated-message": (
            f"A repeated message cannot be given by query parameters ({_HTTP_PROTO});"
            " Envoy makes one of the last."
        ),
        "bound-by-path": (
            f"The query and the body give the fields that the path does not ({_HTTP_PROTO});"
            " who checks the path must be able to rely on it."
        ),
        "bound-by-body": f"The query gives the fields that the body does not ({_HTTP_PROTO}).",
        "body-is-all": (
            f'With body "*" there are no query parameters: every field that the path does not'
            f" bind is in the body ({_HTTP_PROTO})."
        ),
        # Bodies
        "body-without-rule": (
            f"A rule without a body has no request body ({_HTTP_PROTO});"
            " Envoy binds one all the same."
        ),
        "no-body": (
            "No body is no value for the field that it stands for, whatever its type;"
            " Envoy takes it for an empty object."
        ),
        "number-body": (
            "A number is a JSON text by itself (RFC 8259 section 2);"
            " Envoy waits for more until the client gives up."
        ),
        "media-type": (
            "A body is read as what its header says it is, or not at all"
            " (415, RFC 9110 section 15.5.16)."
        ),
        "accept": "A client that accepts no JSON gets none (406, RFC 9110 section 15.5.7).",
        "no-media-type": (
            "An HttpBody without a media type has none (google/api/httpbody.proto);"
            " Envoy calls it JSON if it is empty."
        ),
        "split-header": (
            "A media type is a header field's value (RFC 9110 section 5.5), or the service is"
            " at fault; with line breaks in it, it is Envoy's next header field."
        ),
        "form": "Forms are read too, by the rules for queries.",
        "syntax": (
            "JSON is what RFC 8259 says: no comma before a bracket, no names without double"
            " quotes, no control characters, no other escapes, a digit after the point."
        ),
        "unknown-member": (
            f"A member that no field has is refused ({_PROTO_JSON}: parsers reject unknown"
            " fields by default); Envoy has no way to."
        ),
        "repeated-member": (
            "A name is unique in its object (RFC 8259 section 4), a field is given by one of"
            " its names, a key of a map once."
        ),
        "list": f"A list is a list, and a single value is not one ({_PROTO_JSON}).",
        "null-element": f"null is no element of a list or map ({_PROTO_JSON}).",
        "null": f"The only value of NullValue is null ({_PROTO_JSON}).",
        "duration": "A duration has digits after its point and no plus sign, as it is printed.",
        "mask": (
            f"A path of a FieldMask is in camel case ({_PROTO_JSON}), and not empty;"
            " an underscore would come back as another name."
        ),
        "leap-second": (
            "google/protobuf/timestamp.proto has no leap seconds: no second of a minute is 60."
        ),
        "any-domain": (
            "The name of a type is what follows the last slash"
            " (google/protobuf/any.proto), whatever is before it."
        ),
    }
)
