"""Where the staff site's pages are, under /staff/."""

from django.urls import path

import gateway.addresses  # noqa: F401 (`hex64`)
from gateway.staff import answers, patients, queue, recording, requesters, requests, visitor

urlpatterns = [
    path("", visitor.front, name="staff"),
    path("queue", queue.queue, name="staff_queue"),
    path("requests/<hex64:id>", requests.question, name="staff_request"),
    path("requests/<hex64:id>/own", requests.own, name="staff_own"),
    path("requests/<hex64:id>/approve", requests.approve, name="staff_approve"),
    path("requests/<hex64:id>/send-back", requests.send_back, name="staff_send_back"),
    path("requesters", requesters.index, name="staff_requesters"),
    path("requesters/new", requesters.register, name="staff_new_requester"),
    path("requesters/<uuid:id>", requesters.requester, name="staff_requester"),
    path("requesters/<uuid:id>/change", requesters.change, name="staff_change_requester"),
    path("requesters/<uuid:id>/suspend", requesters.suspend, name="staff_suspend_requester"),
    path("requesters/<uuid:id>/resume", requesters.resume, name="staff_resume_requester"),
    path("requesters/<uuid:id>/models", requesters.register_model, name="staff_register_model"),
    path(
        "requesters/<uuid:id>/models/<hex64:digest>/suspend",
        requesters.suspend_model,
        name="staff_suspend_model",
    ),
    path("requesters/<uuid:id>/models/<hex64:digest>/test", requesters.record_test, name="staff_test_model"),
    path("consents", answers.index, name="staff_answers"),
    path("consents/new", recording.new, name="staff_new_answer"),
    path("consents/new/<slug:step>", recording.new, name="staff_new_answer_step"),
    path("consents/<hex64:id>", answers.answer, name="staff_answer"),
    path("consents/<hex64:id>/withdraw", answers.withdraw, name="staff_withdraw"),
    path("consents/<hex64:id>/mistake", answers.mark_invalid, name="staff_mark_invalid"),
    path("consents/<hex64:id>/scan", answers.scan, name="staff_scan"),
    path("patients", patients.index, name="staff_patients"),
    path("patients/new", patients.new, name="staff_new_patient"),
    path("patients/<hex64:id>", patients.patient, name="staff_patient"),
    path("patients/<hex64:id>/invite", patients.invite_again, name="staff_invite_again"),
    path("patients/<hex64:id>/identity", patients.proof, name="staff_proof"),
    path("patients/<hex64:id>/record", patients.link, name="staff_link"),
    path("patients/<hex64:id>/referral", patients.referral, name="staff_referral"),
]
