"""Where prompts go: GitHub, a provider of one's own, or the embedded model.

In headless use the runtime ignores its own ``COPILOT_PROVIDER_*`` variables (measured on
1.0.85 and 1.0.102: "No GitHub OAuth token ..."), so they are read here, by the names that
``copilot help providers`` gives them, and handed over with every create and resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import NoProviderError, ProviderError
from copilot_jupyter.events import Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "COPILOT_PROVIDER_"

#: The runtime's variables and the SDK's names for them.
_OPTIONS = {
    "TYPE": "type",
    "API_KEY": "api_key",
    "API_KEY_COMMAND": "api_key_command",
    "BEARER_TOKEN": "bearer_token",
    "WIRE_API": "wire_api",
    "TRANSPORT": "transport",
    "MODEL_ID": "model_id",
    "WIRE_MODEL": "wire_model",
}
_LIMITS = {"MAX_PROMPT_TOKENS": "max_prompt_tokens", "MAX_OUTPUT_TOKENS": "max_output_tokens"}

#: What to do where there is nothing to talk to; the three ways to go on.
WAYS_ON = (
    "Sign in with %copilot_login; or name a provider in COPILOT_PROVIDER_BASE_URL and "
    "COPILOT_MODEL; or try the embedded model: %config Copilot.provider = 'local'."
)


def resolve(setting: str, model: str, environment: Mapping[str, str]) -> Provider:
    """Decide where prompts go, without asking anybody.

    Parameters
    ----------
    setting : str
        ``Copilot.provider``: "auto", "github", "local" or a URL.
    model : str
        ``Copilot.model``, "" where it is not set.
    environment : Mapping
        The process's environment.

    Returns
    -------
    Provider
        Of kind "local" without a configuration yet: the model server is started on use.
    """
    named = environment.get(_PREFIX + "BASE_URL", "").strip()
    chosen = model or environment.get("COPILOT_MODEL", "")
    if setting == "local":
        return Provider("local", model)
    if setting == "github" or (setting == "auto" and not named):
        return Provider("github", chosen)
    url = named if setting == "auto" else setting
    # A key belongs to the endpoint it was set for: it is not sent to another one.
    same = not named or url.rstrip("/") == named.rstrip("/")
    config = _configuration(url, environment if same else {})
    return Provider("byok", chosen or str(config.get("model_id", "")), config)


def _configuration(url: str, environment: Mapping[str, str]) -> dict[str, Any]:
    config: dict[str, Any] = {"type": "openai", "base_url": url}
    for variable, option in _OPTIONS.items():
        if value := environment.get(_PREFIX + variable):
            config[option] = value
    for variable, option in _LIMITS.items():
        if value := environment.get(_PREFIX + variable):
            config[option] = _whole(variable, value)
    if version := environment.get(_PREFIX + "AZURE_API_VERSION"):
        config["azure"] = {"api_version": version}
    if headers := environment.get(_PREFIX + "HEADERS"):
        lines = headers.replace("\\n", "\n").splitlines()
        pairs = (line.partition(":") for line in lines if ":" in line)
        config["headers"] = {name.strip(): value.strip() for name, _, value in pairs}
    return config


def _whole(variable: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise NoProviderError(
            f"The environment variable {_PREFIX}{variable} is {value!r}, which is no number.",
            "Set it to a whole number of tokens, or unset it.",
        ) from None


async def list_models(provider: Provider) -> list[str]:
    """Ask a provider of one's own for the names of its models (``GET /models``).

    Parameters
    ----------
    provider : Provider
        Of kind "byok" or "local".

    Returns
    -------
    list of str

    Raises
    ------
    ProviderError
        If it does not answer with a list.
    """
    import httpx

    url = str(provider.config["base_url"]).rstrip("/") + "/models"
    try:
        # The embedded model is on this machine: its key is not for a proxy.
        trusts = provider.kind != "local"
        async with httpx.AsyncClient(timeout=10, trust_env=trusts) as client:
            response = await client.get(url, headers=_authorization(provider.config))
        response.raise_for_status()
        return [str(entry["id"]) for entry in response.json()["data"]]
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise ProviderError(
            f"The provider at {url} answered {status} when asked for its models.",
            "Name the model yourself: %config Copilot.model = '...'.",
            status=status,
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise ProviderError(
            f"The provider at {url} did not list its models ({type(error).__name__}).",
            "Check COPILOT_PROVIDER_BASE_URL, and that the provider runs.",
        ) from None


def _authorization(config: Mapping[str, Any]) -> dict[str, str]:
    headers = dict(config.get("headers", {}))
    if token := config.get("bearer_token"):
        headers["Authorization"] = f"Bearer {token}"
    elif key := config.get("api_key"):
        names = {"azure": ("api-key", ""), "anthropic": ("x-api-key", "")}
        name, scheme = names.get(str(config.get("type")), ("Authorization", "Bearer "))
        headers[name] = scheme + key
    return headers
