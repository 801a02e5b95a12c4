"""Where the portal's pages are."""

from django.urls import path

import gateway.addresses  # noqa: F401 (`hex64`)
from gateway.portal import (
    access,
    choices,
    front,
    news,
    proof,
    questions,
    receipts,
    understand,
    written_down,
)

urlpatterns = [
    path("", front.start, name="start"),
    path("home", front.home, name="home"),
    path("help", front.help_page, name="help"),
    path("invitation/<str:code>", front.invitation, name="invitation"),
    path("notices/<hex64:digest>", front.notice, name="notice"),
    path("requests", questions.index, name="requests"),
    path("requests/<hex64:id>", questions.question, name="question"),
    path("requests/<hex64:id>/choose", questions.choose, name="choose"),
    path("requests/<hex64:id>/understand", understand.first, name="understand"),
    path("requests/<hex64:id>/understand/<int:number>", understand.one, name="understand_one"),
    path("requests/<hex64:id>/check", questions.check, name="check"),
    path("requests/<hex64:id>/no", questions.refuse, name="refuse"),
    path("requests/<hex64:id>/done", questions.done, name="done"),
    path("choices", choices.index, name="choices"),
    path("choices/<hex64:id>", choices.choice, name="choice"),
    path("choices/<hex64:id>/change", choices.change, name="change"),
    path("choices/<hex64:id>/change/check", choices.check_change, name="check_change"),
    path("choices/<hex64:id>/stop", choices.stop, name="stop"),
    path("choices/<hex64:id>/delete", choices.delete, name="ask_deletion"),
    path("choices/<hex64:id>/receipt.json", receipts.as_json, name="receipt_json"),
    path("choices/<hex64:id>/receipt.pdf", receipts.as_pdf, name="receipt_pdf"),
    path("choices/<hex64:id>/undo", written_down.undo, name="undo"),
    path("access", access.access, name="access"),
    path("access/list.<str:form>", access.download, name="access_file"),
    path("access/<use:key>", access.use, name="use"),
    path("access/<use:key>/proof", proof.proof, name="proof"),
    path("access/<use:key>/proof.json", proof.download, name="proof_file"),
    path("proof/check", proof.check, name="proof_check"),
    path("news", news.news, name="news"),
    path("settings", news.settings_page, name="settings"),
]
