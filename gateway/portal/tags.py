"""Two template tags and a filter that every template knows.

`csrf_token`, in place of Django's own: the field that guards a form also says for whom it was made. A visitor
who acts for several people may have a page of each open; the same tag in every form means that none can be
forgotten (gateway/portal/visitor.py compares it). `said`: an asker's words, in the language they are in.
`sentence`: what is said of an error.
"""

from typing import Any

from django import template
from django.template.base import Parser, Token
from django.template.defaulttags import CsrfTokenNode
from django.utils.html import format_html
from django.utils.safestring import SafeString

from consent.models import ConsentRequest
from gateway.portal.visitor import MADE_FOR
from gateway.wording import sentence

register = template.Library()
register.filter("sentence", sentence)


class GuardNode(CsrfTokenNode):
    def render(self, context: Any) -> SafeString:
        guard = SafeString(super().render(context))
        visit = getattr(context.get("request"), "visit", None)
        if visit is None or visit.patient is None or not visit.represents:
            return guard
        field = format_html('<input type="hidden" name="{}" value="{}">', MADE_FOR, visit.patient.pk)
        return SafeString(guard + field)


@register.tag
def csrf_token(parser: Parser, token: Token) -> GuardNode:
    return GuardNode()


@register.simple_tag
def said(question: ConsentRequest, words: str) -> SafeString:
    """What an asker wrote, marked as its language (WCAG 3.1.2) and apart from the page's direction."""
    return format_html('<span lang="{}" dir="auto">{}</span>', question.language, words or "–")
