"""One template tag, in place of Django's own: the field that guards a form also says for whom it was made.

A visitor who acts for several people may have a page of each open; the same tag in every form means that
none can be forgotten (gateway/portal/visitor.py compares it).
"""

from typing import Any

from django import template
from django.template.base import Parser, Token
from django.template.defaulttags import CsrfTokenNode
from django.utils.html import format_html
from django.utils.safestring import SafeString

from gateway.portal.visitor import MADE_FOR

register = template.Library()


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
