"""A Narrative's XHTML (FHIR R4, narrative, txt-1 and txt-2): formatting and pictures, and nothing that acts.

No script, form, object, frame, style sheet, event attribute, document type or address that runs code.
"""

import re
from xml.parsers import expat

_XHTML = "http://www.w3.org/1999/xhtml"
_ELEMENTS = (
    "a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd del dfn div dl dt "
    "em h1 h2 h3 h4 h5 h6 hr i img ins kbd li map ol p pre q samp small span strong sub sup table tbody td "
    "tfoot th thead tr tt ul var"
)
_ATTRIBUTES = (
    "abbr accesskey align alt axis bgcolor border cellpadding cellspacing char charoff charset cite class "
    "clear color colspan compact coords datetime dir face frame headers height href hreflang hspace id lang "
    "longdesc name noshade nowrap rel rev rowspan rules scope shape size span src start style summary "
    "tabindex target title type usemap valign value vspace width xml:lang xml:space xmlns"
)
_INERT, _HARMLESS = frozenset(_ELEMENTS.split()), frozenset(_ATTRIBUTES.split())
_ADDRESSES = frozenset({"href", "src", "cite", "longdesc", "usemap"})
_SAFE_ADDRESS = re.compile(
    r"(?:https?:|mailto:|tel:|urn:|#|data:image/(?:png|gif|jpeg);|[^:]*(?:[/?#].*)?$)",
    re.IGNORECASE | re.DOTALL,
)
_ACTIVE_STYLE = re.compile(r"url\s*\(|expression|javascript|@import|behaviou?r|\\", re.IGNORECASE)

_NOT_XHTML = ("narrative", "is not well-formed XHTML")
_NO_DIV = ("narrative", "must be one div of XHTML")
_EMPTY = ("narrative", "has neither text nor a picture")
_ACTIVE = ("narrative", "holds a script, a form or something else that a narrative may not hold")


class _Found(Exception):
    def __init__(self, fault: tuple[str, str]) -> None:
        super().__init__()
        self.fault = fault


def narrative_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with `Narrative.div`, as code and sentence; None when it holds only what it may."""
    depth, has_content = 0, False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, has_content
        if depth == 0 and (name != "div" or attributes.get("xmlns") != _XHTML):
            raise _Found(_NO_DIV)
        depth += 1
        has_content = has_content or name == "img"
        if name not in _INERT or not all(map(_is_inert, attributes, attributes.values())):
            raise _Found(_ACTIVE)

    def text_found(data: str) -> None:
        nonlocal has_content
        has_content = has_content or bool(data.strip())

    def refuse(*_: object) -> None:
        raise _Found(_ACTIVE)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.CharacterDataHandler = start, text_found
    parser.StartDoctypeDeclHandler = parser.ProcessingInstructionHandler = refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError:
        return _NOT_XHTML
    except _Found as found:
        return found.fault
    return None if has_content else _EMPTY


def _is_inert(name: str, value: str) -> bool:
    if name not in _HARMLESS:
        return False
    if name in _ADDRESSES:
        return _SAFE_ADDRESS.match(value.strip()) is not None
    return name != "style" or _ACTIVE_STYLE.search(value) is None
