"""Stand-in servers for the sources: HTTP, Secret Manager, and 1Password's native library."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import grpc
from google.cloud.secretmanager_v1 import types
from onepassword.core import UniffiCore

VAULT, ITEM = "v" * 26, "i" * 26
ACCESS = "/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion"


class HttpServer:
    """Answers requests by path, and records them."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                parts = urlsplit(self.path)
                wanted = parse_qs(parts.query).get("filter", [""])[0]
                status, body = outer.answers.get(f"{parts.path} {wanted}".strip(), (404, {}))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", str(body))
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def keep(self, secret: str) -> None:
        """Put *secret* into the paths of Doppler, 1Password Connect and a minimal Vault."""
        item = {
            "sections": [{"id": "s1", "label": "live"}, {"id": "s2", "label": "test"}],
            "fields": [
                {"id": "f1", "label": "key", "value": secret, "section": {"id": "s1"}},
                {"id": "f2", "label": "key", "value": "sk_test", "section": {"id": "s2"}},
                {"id": "f3", "label": "note", "value": "x"},
                {"id": "f4", "label": "empty"},
            ],
        }
        self.answers = {
            "/v3/configs/config/secret": (
                200,
                {"name": "KEY", "value": {"raw": "x", "computed": secret}},
            ),
            '/v1/vaults name eq "agents"': (200, [{"id": VAULT}]),
            '/v1/vaults name eq "twice"': (200, [{"id": VAULT}, {"id": "w" * 26}]),
            f'/v1/vaults/{VAULT}/items title eq "stripe"': (200, [{"id": ITEM}]),
            f"/v1/vaults/{VAULT}/items/{ITEM}": (200, item),
            "/v1/secret/data/agents/stripe": (200, {"data": {"data": {"api_key": secret}}}),
            "/v1/old/agents/stripe": (200, {"data": {"api_key": secret}}),
        }

    def stop(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


class SecretManager(grpc.GenericRpcHandler):
    """A minimal Google Secret Manager; records the requested versions."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.refuses: grpc.StatusCode | None = None
        self.checksum: int | None = None
        self._server = grpc.server(ThreadPoolExecutor(2), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def keep(self, name: str, content: str | bytes, version: str = "latest") -> None:
        """Have a version of a secret of the project ``agents``."""
        content = content.encode() if isinstance(content, str) else content
        self.kept[f"projects/agents/secrets/{name}/versions/{version}"] = content

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """See ``grpc.GenericRpcHandler``."""
        if details.method != ACCESS:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._access,
            request_deserializer=types.AccessSecretVersionRequest.deserialize,
            response_serializer=types.AccessSecretVersionResponse.serialize,
        )

    def _access(
        self, request: types.AccessSecretVersionRequest, context: grpc.ServicerContext
    ) -> types.AccessSecretVersionResponse:
        self.asked.append(request.name)
        if self.refuses is not None:
            context.abort(self.refuses, f"{request.name} {self.kept}")
        if request.name not in self.kept:
            context.abort(grpc.StatusCode.NOT_FOUND, f"none of {self.kept}")
        data = self.kept[request.name]
        sum_ = google_crc32c.value(data) if self.checksum is None else self.checksum
        payload = types.SecretPayload(data=data, data_crc32c=sum_)
        return types.AccessSecretVersionResponse(name=request.name, payload=payload)

    def stop(self) -> None:
        """Stop."""
        self._server.stop(None).wait(5)


class OnePasswordCore:
    """
    Stands in for the native library of onepassword-sdk, with its three functions.

    The native library speaks an encrypted protocol with 1Password's servers, for which there is no
    stand-in. The Python code of the package above it is the real one.
    """

    def __init__(self, real: ModuleType) -> None:
        self._error = real.Error.Error
        self.kept: dict[str, str] = {}
        self.accounts: list[str] = []
        self.refuses = ""
        self.released = 0

    async def init_client(self, config: str) -> str:
        """Log in."""
        self.accounts.append(json.loads(config)["serviceAccountToken"])
        return str(len(self.accounts))

    async def invoke(self, invocation: str) -> str:
        """Return the secret, or raise the library's error if it is missing."""
        asked = json.loads(invocation)["invocation"]["parameters"]
        reference = asked["parameters"]["secret_reference"]
        why = self.refuses or ("" if reference in self.kept else "no item matched the reference")
        if why:
            raise self._error(msg=json.dumps({"name": "Other", "message": why}))
        return json.dumps(self.kept[reference])

    def release_client(self, client_id: str) -> None:
        """Log out."""
        self.released += 1


@contextmanager
def onepassword_core(monkeypatch) -> Iterator[OnePasswordCore]:
    """Replace the native library with the stand-in."""
    real = UniffiCore().core
    core = OnePasswordCore(real)
    for name in ("init_client", "invoke", "release_client"):
        monkeypatch.setattr(real, name, getattr(core, name))
    yield core
