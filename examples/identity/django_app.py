"""A Django service that believes Keyward's signature, and nobody else. Run it with: gunicorn django_app:application"""

import json
import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from keyward_identity import KeywardWSGI, Verifier

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="unused: this service signs nothing itself")
django.setup()


@csrf_exempt
def answer(request, rest):
    claims = request.environ["keyward"]
    return JsonResponse({
        "organization": request.headers.get("X-Org-Code"),
        "user_id": request.headers.get("X-User-Id"),
        "route": claims["route"],
        "method": request.method,
        "body": request.body.decode(),
    })


def healthz(request):
    return JsonResponse({"status": "ok", "organization": request.headers.get("X-Org-Code")})


urlpatterns = [path("ai/<path:rest>", answer), path("healthz", healthz)]
verifier = Verifier(
    os.environ.get("KEYWARD_JWKS", "jwks.json"),
    audience="ai",
    secrets=json.loads(os.environ.get("KEYWARD_SECRETS", "{}")),
)
application = KeywardWSGI(get_wsgi_application(), verifier, public={"/healthz"})
