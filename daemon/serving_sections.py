"""The sections of the settings that are about serving: what each is for, in which unit and within which bounds."""

from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, Field, model_validator

from .setting_types import STRICT, Positive, Seconds


class Serving(BaseModel):
    """The engine and the gRPC edge."""

    model_config = STRICT

    device: str = Field(default="auto", description='"auto", "cpu", "cuda" or "cuda:1"')
    threads: Annotated[int, Ge(0)] = Field(default=0, description="CPU threads of the engine; 0: all cores")
    slots: Annotated[int, Ge(2), Le(4096)] = Field(default=32, description="versions that can be resident at once")
    host_cache_mb: Annotated[int, Ge(0)] = Field(
        default=256, description="MiB of memory for versions that left their slot; 0: they are read from disk again"
    )
    max_rank: Annotated[int, Ge(1), Le(512)] = Field(default=64, description="largest rank that can be served")
    max_batch: Positive = Field(default=16, description="requests that are decoded together")
    drafts: bool = Field(
        default=True, description="on a CPU, whether answers that repeat something get several tokens a step"
    )
    prefix_cache_mb: Annotated[int, Ge(0)] = Field(
        default=64, description="MiB of memory for beginnings that prompts share; 0: every prompt is read as a whole"
    )
    max_queue: Positive = Field(
        default=64, description="requests that wait; one more is refused with RESOURCE_EXHAUSTED"
    )
    max_context: Annotated[int, Ge(16)] = Field(default=2048, description="tokens of prompt and answer together")
    max_tokens: Positive = Field(default=256, description="tokens of an answer where the request names no number")
    max_continuations: Positive = Field(default=512, description="continuations that one Score may ask for")
    max_message_bytes: Positive = Field(default=4 << 20, description="bytes of one gRPC message")
    max_concurrent_rpcs: Positive = Field(default=128, description="calls under way at once; one more is refused")
    request_timeout_s: Seconds = Field(default=300.0, description="deadline of a request that brings none")
    drain_timeout_s: Seconds = Field(default=30.0, description="patience with running requests at a swap or at the end")


class Canary(BaseModel):
    """A new version on trial: what it gets of the requests, and when it becomes champion or is taken back."""

    model_config = STRICT

    share: Annotated[float, Ge(0), Lt(1)] = Field(
        default=0.0,
        description="share of a champion's requests that a version which passed the gate answers first, as canary; "
        "0: it becomes champion at once",
    )
    min_requests: Positive = Field(default=200, description="requests that a canary has to answer to become champion")
    level: Annotated[float, Gt(0), Lt(1)] = Field(
        default=0.01, description="probability of taking back by chance a canary that is as good as the champion"
    )
    max_slowdown: Annotated[float, Ge(1)] = Field(
        default=1.5, description="seconds a token, over the champion's, that are accepted of a canary"
    )


class Access(BaseModel):
    """Who may do what, and whether other machines reach the daemon."""

    model_config = STRICT

    local: Literal["none", "infer", "submit", "admin"] = Field(
        default="admin", description="role of who comes by the Unix socket or a loopback port without a token"
    )
    tokens: str = Field(default="", description="file of tokens' hashes, as `adapterd token new` writes it")
    max_calls: Positive = Field(default=32, description="calls that one token or certificate may have under way")
    address: str = Field(
        default="", description='further address, for other machines, by TLS: "0.0.0.0:50051"; empty: none'
    )
    certificate: str = Field(default="", description="the daemon's certificate and its chain, PEM")
    key: str = Field(default="", description="the certificate's private key, PEM")
    client_ca: str = Field(
        default="", description="authority that has signed the clients' certificates, PEM; each must then show one"
    )
    signers: str = Field(
        default="", description="file of ssh-keygen's allowed signers, of whom one must have signed what is imported"
    )
    certificates: dict[str, Literal["infer", "submit", "admin"]] = Field(
        default={}, description="roles of clients' certificates, by common name or alternative name"
    )

    @model_validator(mode="after")
    def _who_calls_is_known(self) -> Self:
        if self.address:
            if not (self.certificate and self.key):
                raise ValueError("other machines are served by TLS alone: set access.certificate and access.key")
            if not (self.tokens or self.client_ca):
                raise ValueError("other machines must say who they are: set access.tokens or access.client_ca")
        if self.certificates and not self.client_ca:
            raise ValueError("nobody's certificate is checked: set access.client_ca")
        return self


class Client(BaseModel):
    """What the commands show to a daemon, and whom they trust; only those that talk to one read it."""

    model_config = STRICT

    token_file: str = Field(default="", description="file with the token that the commands show")
    ca: str = Field(default="", description="authority of the daemon's certificate, PEM; default: public ones")
    certificate: str = Field(default="", description="the client's certificate and its chain, PEM")
    key: str = Field(default="", description="the certificate's private key, PEM")


class Retention(BaseModel):
    """Which versions' files are kept beside champion, canary, previous and pinned ones."""

    model_config = STRICT

    keep_newest: Annotated[int, Ge(0)] = Field(default=10, description="newest versions of each task that are kept")
    every_s: Seconds = Field(default=3600.0, description="seconds between two clean-ups")
