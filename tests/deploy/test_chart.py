"""The Helm chart: what it renders fits Kubernetes' schemas and itself, what it refuses it refuses in words, and the
binary runs with the very arguments in it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import kubernetes_validate
import pytest
import yaml
from chart import CHART, NAMESPACE, ROOT, VALUES, Rendered, helm, render, with_values
from serving import server_binary
from started import DEADLINE, free_port, health, running, settings_known

# The oldest Kubernetes that the chart promises, and the newest at the time of writing.
VERSIONS = ("1.27", "1.37")
# Kinds that the cluster learns of others; Kubernetes has no schema of them.
FOREIGN = {"ServiceMonitor", "Certificate"}
SETS = {"default": [], **{path.stem: ["--values", str(path)] for path in VALUES}}
CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text().replace("\\\n", " ")


@pytest.fixture(params=SETS, scope="module")
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(*SETS[request.param])


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


# --- whatever the values are


@pytest.mark.parametrize("name", SETS)
def test_lint(name: str) -> None:
    done = helm("lint", "--strict", str(CHART), *SETS[name])
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_fits_the_schemas(rendered: Rendered) -> None:
    kinds = {document["kind"] for document in rendered.documents}
    assert {"Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"} <= kinds
    for document in rendered.documents:
        if document["kind"] not in FOREIGN:
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)


def test_every_selector_finds_the_pod_and_nothing_else(rendered: Rendered) -> None:
    labels = rendered.one("StatefulSet")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        rendered.one("Service")["spec"]["selector"],
        rendered.one("StatefulSet")["spec"]["selector"]["matchLabels"],
        rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *[monitor["spec"]["selector"]["matchLabels"] for monitor in rendered.all("ServiceMonitor")],
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    for test in rendered.all("Pod"):
        assert not any(selector.items() <= test["metadata"]["labels"].items() for selector in selectors)
        allowed = rendered.one("NetworkPolicy")["spec"]["ingress"][0]["from"]
        ours = [peer["podSelector"]["matchLabels"] for peer in allowed if set(peer) == {"podSelector"}]
        assert any(peer.items() <= test["metadata"]["labels"].items() for peer in ours), "helm test is let in"
    assert rendered.one("StatefulSet")["spec"]["serviceName"] == rendered.one("Service")["metadata"]["name"]
    assert {document["metadata"]["namespace"] for document in rendered.documents} == {NAMESPACE}


def test_ports_and_probes_are_the_listeners(rendered: Rendered) -> None:
    container = rendered.container
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": port_of(rendered.flags["--listen"]), "http": port_of(rendered.flags["--http-listen"])}
    assert {port["name"]: port["port"] for port in rendered.one("Service")["spec"]["ports"]} == ports
    assert all(port["targetPort"] == port["name"] for port in rendered.one("Service")["spec"]["ports"])
    let_in = [port["port"] for rule in rendered.one("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]]
    assert "grpc" in let_in and set(let_in) <= set(ports)
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    for probe in (container["startupProbe"], container["readinessProbe"]):
        # The kubelet's gRPC probes can't speak TLS.
        ready = {"httpGet": {"path": "/readyz", "port": "http"}}
        assert ready.items() <= probe.items() if "--tls-cert" in rendered.flags else probe["grpc"] == {"port": 7461}
    (scheme,) = [entry["value"].partition(":")[0] for entry in container["env"] if entry["name"] == "AUTOLRS_SERVER"]
    assert scheme == ("https" if "--tls-cert" in rendered.flags else "http")


def test_pods_are_confined(rendered: Rendered) -> None:
    for pod in [rendered.pod, *[test["spec"] for test in rendered.all("Pod")]]:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        mounts = {mount["name"]: mount for mount in container.get("volumeMounts", [])}
        secrets = {volume["name"]: volume["secret"] for volume in pod.get("volumes", [])}
        assert set(mounts) - {"data"} == set(secrets), "what is mounted is there"
        assert all(mounts[name]["readOnly"] for name in secrets)
        assert all(secret["defaultMode"] == 0o440 for secret in secrets.values()), "the group's, nobody else's"
    assert rendered.one("StatefulSet")["spec"]["replicas"] == 1, "the store belongs to one process"
    (data,) = [mount for mount in rendered.container["volumeMounts"] if mount["name"] == "data"]
    assert rendered.flags["--data-dir"].startswith(data["mountPath"] + "/"), "the store is on the volume"


def test_files_of_secrets_are_mounted(rendered: Rendered) -> None:
    """Every path that the server, or a command in the pod, is told lies in a secret's volume."""
    for pod in [rendered.pod, *[test["spec"] for test in rendered.all("Pod")]]:
        (container,) = pod["containers"]
        told = [argument.partition("=")[2] for argument in container["args"]]
        told += [entry["value"] for entry in container["env"]]
        places = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
        secrets = {volume["name"]: volume["secret"] for volume in pod.get("volumes", [])}
        for path in map(Path, (text for text in told if text.startswith("/etc/autolrs/"))):
            secret = secrets[places[str(path.parent)]]
            assert path.name in [item["path"] for item in secret.get("items", [{"path": path.name}])]


def test_the_grace_covers_the_drain(rendered: Rendered) -> None:
    drain = re.search(r'^#? *drain = "(\d+)s"$', (ROOT / "deploy/config.example.toml").read_text(), re.M)
    assert drain is not None
    drain_seconds = int(rendered.flags.get("--drain", drain[1]).removesuffix("s"))
    assert rendered.pod["terminationGracePeriodSeconds"] > drain_seconds


# --- what the values change


def test_by_default_it_has_tls_and_tokens() -> None:
    default = render()
    assert {"--tls-cert", "--tls-key", "--tokens"} <= set(default.flags)
    assert not {"--insecure", "--tls-client-ca"} & set(default.flags)
    secrets = {volume["secret"]["secretName"] for volume in default.pod["volumes"]}
    assert secrets == {"autolrs-tls", "autolrs-tokens"}
    assert not default.all("ServiceMonitor") and not default.all("Certificate")


def test_secrets_that_exist() -> None:
    volumes = {volume["name"]: volume["secret"] for volume in with_values("mtls").pod["volumes"]}
    assert volumes["client-ca"]["secretName"] == "machines"
    assert with_values("mtls").flags["--tls-client-ca"] == "/etc/autolrs/client-ca/ca.crt"
    (volume,) = with_values("tls-secret").pod["volumes"]
    assert volume["secret"]["secretName"] == "autolrs.example"
    (volume,) = with_values("tokens").pod["volumes"]
    assert volume["secret"]["secretName"] == "trainers"
    assert with_values("tokens").flags["--tokens"] == "/etc/autolrs/tokens/file.json"


def test_the_test_pod_never_sees_the_servers_key() -> None:
    for name in ("cert-manager", "mtls"):
        (test,) = with_values(name).all("Pod")
        (ca,) = [volume for volume in test["spec"]["volumes"] if volume["name"] == "ca"]
        assert ca["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


def test_without_a_clients_certificate_mtls_has_no_test_pod() -> None:
    assert not render("--set", "tls.clientCA.existingSecret=machines").all("Pod")


def test_the_certificate_is_for_the_service_and_ends_in_its_secret() -> None:
    rendered = with_values("cert-manager")
    spec = rendered.one("Certificate")["spec"]
    name = rendered.one("Service")["metadata"]["name"]
    assert {name, f"{name}.{NAMESPACE}.svc", "localhost", "autolrs.example"} <= set(spec["dnsNames"])
    (tls,) = [volume for volume in rendered.pod["volumes"] if volume["name"] == "tls"]
    assert tls["secret"]["secretName"] == spec["secretName"]
    assert spec["issuerRef"] == {"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"}


def test_the_monitor_reads_a_port_that_the_service_has() -> None:
    rendered = with_values("service-monitor")
    monitor = rendered.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in rendered.one("Service")["spec"]["ports"]]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "autolrs"}], "what alerts look for"


def test_whatever_else_is_set_is_in_the_pod() -> None:
    rendered = with_values("everything")
    assert rendered.flags["--max-jobs"] == "5000000", "a large number is written out"
    assert rendered.flags["--otlp-sample-ratio"] == "0.25"
    assert rendered.flags["--create-store"] == "false"
    assert rendered.container["image"] == "registry.example:5000/ml/autolrs@sha256:" + 64 * "a"
    assert rendered.one("StatefulSet")["metadata"]["name"] == "autolrs-rates"
    assert rendered.one("NetworkPolicy")["spec"]["egress"][0]["ports"] == [{"port": 4317}]
    assert len(rendered.one("NetworkPolicy")["spec"]["ingress"]) == 1, "nobody reads the metrics"
    assert {"priorityClassName", "nodeSelector", "tolerations", "affinity"} <= set(rendered.pod)


@pytest.mark.parametrize("name", SETS)
def test_the_notes_name_the_secrets_and_the_address(name: str) -> None:
    done = helm("install", "autolrs", str(CHART), "--namespace", NAMESPACE, "--dry-run=client", *SETS[name])
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    rendered = render(*SETS[name])
    service = rendered.one("Service")["metadata"]["name"]
    scheme = "https" if "--tls-cert" in rendered.flags else "http"
    assert f"AUTOLRS_SERVER={scheme}://{service}.{NAMESPACE}.svc:7461" in notes
    made = re.findall(r"create secret generic (\S+)", notes)
    volumes = {volume["name"]: volume["secret"]["secretName"] for volume in rendered.pod.get("volumes", [])}
    theirs = {"tls", "tokens"} - ({"tls"} if rendered.all("Certificate") else set())
    assert made == [secret for volume, secret in volumes.items() if volume in theirs], "those that nobody else makes"
    assert ("insecure is true" in notes) == ("--insecure" in rendered.flags)


# --- what is refused, and how


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("tls.enabeld=false", "at '/tls': additional properties 'enabeld' not allowed"),
        ("settings.max_job=1", "at '/settings': additional properties 'max_job' not allowed"),
        ("settings.disk_warning=off", "at '/settings/disk_warning'"),
        ("settings.connection_age=off", "at '/settings/connection_age'"),
        ("settings.max_backups=65", "at '/settings/max_backups'"),
        ("settings.max_jobs=many", "at '/settings/max_jobs': got string, want integer"),
        ("settings.insecure=true", "at '/settings': additional properties 'insecure' not allowed"),
        ("persistence.size=ten", "at '/persistence/size'"),
        ("persistence.accessModes={ReadWriteMany}", "at '/persistence/accessModes/0'"),
        ("podDisruptionBudget.maxUnavailable=2", "at '/podDisruptionBudget/maxUnavailable': maximum"),
        ("podLabels.app\\.kubernetes\\.io/name=x", "invalid propertyName 'app.kubernetes.io/name'"),
        ("image.repository=", "at '/image/repository'"),
        ("tls.enabled=false", "tls.enabled is false: whoever reaches the port could listen in"),
        ("tokens.enabled=false", "tokens.enabled is false: whoever reaches the port could see and end every job"),
        ("tls.certManager.enabled=true", "tls.certManager.issuerRef.name is missing"),
        (
            "tls.enabled=false,insecure=true,tls.clientCA.existingSecret=x",
            "tls.clientCA needs tls.enabled",
        ),
        (
            "tls.enabled=false,insecure=true,tls.certManager.enabled=true",
            "tls.certManager.enabled needs tls.enabled",
        ),
    ],
)
def test_wrong_values_are_refused_in_words(values: str, words: str) -> None:
    refused = helm("template", "autolrs", str(CHART), "--set", values)
    assert refused.returncode != 0
    assert words in refused.stderr


def test_the_schema_is_strict_and_whole() -> None:
    """It knows every value that there is, and no other, at every level that the chart looks into."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values: dict[str, Any], schema: dict[str, Any], place: str) -> None:
        properties = schema.get("properties")
        if properties is None:
            return
        assert schema["additionalProperties"] is False, place
        # What helm itself adds, and what Kubernetes' own schemas judge.
        optional = {"global"} if not place else set()
        if place not in (".settings", ".resources"):
            assert set(values) == set(properties) - optional, place
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, properties[key], f"{place}.{key}")

    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


def test_settings_are_the_servers() -> None:
    """A new setting of the server goes into `settings` of the chart's values.schema.json; the chart sets the others."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    ours = set(schema["properties"]["settings"]["properties"])
    charts = {flag[2:].replace("-", "_") for name in ("mtls", "open") for flag in with_values(name).flags}
    assert set(settings_known()) - charts - ours == set()
    assert ours - set(settings_known()) == set(), "the server has dropped it"


def test_numbers_are_bounded_as_the_server_bounds_them() -> None:
    settings = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["properties"]
    bounded = 0
    for key, rule in settings.items():
        number = next((each for each in [rule, *rule.get("anyOf", [])] if each.get("type") == "integer"), None)
        if number is not None:
            bounded += 1
            least, most = number["minimum"], number["maximum"]
            accepted = {value: accepts(key, value) for value in (least - 1, least, most, most + 1)}
            assert list(accepted.values()) == [False, True, True, False], (key, accepted)
    assert bounded >= 12


def accepts(key: str, value: int) -> bool:
    """Whether the server takes a setting."""
    command = [str(server_binary()), "config", "check", f"--{key.replace('_', '-')}={value}"]
    return subprocess.run(command, capture_output=True).returncode == 0


# --- the binary with the chart's arguments


def test_the_binary_runs_with_the_charts_arguments(tmp_path: Path) -> None:
    rendered, binary = with_values("open"), server_binary()
    ports = {port_of(rendered.flags[name]): free_port() for name in ("--listen", "--http-listen")}
    home = tmp_path / "container"
    home.mkdir()

    def here(argument: str) -> str:
        name, _, value = argument.partition("=")
        if name in ("--listen", "--http-listen"):
            return f"{name}={value.rpartition(':')[0]}:{ports[port_of(value)]}"
        return argument.replace(rendered.flags["--data-dir"], str(tmp_path / "volume/data"))

    grpc, http = ports.values()
    (tmp_path / "volume").mkdir()
    with running([str(binary), *map(here, rendered.container["args"])], grpc, home) as process:
        path = rendered.container["livenessProbe"]["httpGet"]["path"]
        with urlopen(f"http://127.0.0.1:{http}{path}", timeout=DEADLINE) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(rendered.pod["terminationGracePeriodSeconds"]) == 0
    assert health(binary, grpc).returncode != 0, "nobody is there any more"
    assert any((tmp_path / "volume/data").iterdir()), "the store is where the volume is"
    assert [file.name for file in home.iterdir()] == ["log"], "a read-only root file system is enough"
    lines = (home / "log").read_text().splitlines()
    assert lines and all(isinstance(json.loads(line), dict) for line in lines), "every line of the log is JSON"


def test_open_to_others_only_if_told(tmp_path: Path) -> None:
    arguments = [argument for argument in with_values("open").container["args"] if argument != "--insecure"]
    command = [str(server_binary()), *arguments]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
    assert refused.returncode != 0
    assert "--insecure" in refused.stderr


def test_image_and_chart_agree() -> None:
    def steps(instruction: str) -> list[str]:
        return re.findall(rf"^{instruction} +(.+?) *$", CONTAINERFILE, re.M)

    rendered = render()
    user = rendered.pod["securityContext"]
    assert steps("USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    (data,) = [mount for mount in rendered.container["volumeMounts"] if mount["name"] == "data"]
    assert steps("VOLUME") == [data["mountPath"]]
    assert steps("ENV") == [f"AUTOLRS_DATA_DIR={rendered.flags['--data-dir']}"]
    assert steps("EXPOSE") == [" ".join(str(port["containerPort"]) for port in rendered.container["ports"])]
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.M)
    assert version is not None and rendered.container["image"] == f"autolrs:{version[1]}"


# --- the trainer beside it


def test_the_example_job_fits_the_schemas_and_the_chart() -> None:
    text = (ROOT / "deploy/examples/pytorch-job/job.yaml").read_text()
    documents = {document["kind"]: document for document in yaml.safe_load_all(text)}
    for version in VERSIONS:
        for document in documents.values():
            kubernetes_validate.validate(document, version, strict=True)
    template = documents["Job"]["spec"]["template"]
    pod, server = template["spec"], render()
    peers = server.one("NetworkPolicy")["spec"]["ingress"][0]["from"]
    labels = template["metadata"]["labels"].items()
    assert any(peer["podSelector"]["matchLabels"].items() <= labels for peer in peers), "it is let in"
    assert not server.one("Service")["spec"]["selector"].items() <= labels
    (container,) = pod["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    service = server.one("Service")["metadata"]["name"]
    port = server.one("Service")["spec"]["ports"][0]["port"]
    assert environment["AUTOLRS_SERVER"]["value"] == f"https://{service}:{port}"
    assert set(environment["AUTOLRS_TOKEN"]) == {"name", "valueFrom"}, "the token is in no manifest"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    ca = Path(environment["AUTOLRS_CA"]["value"])
    secret = mounts[str(ca.parent)]["secret"]
    assert secret["secretName"] in [volume["secret"]["secretName"] for volume in server.pod["volumes"]]
    assert secret["items"] == [{"key": "ca.crt", "path": ca.name}], "the server's key is not for trainers"
    (checkpoints,) = [argument.partition("=")[2] for argument in container["args"] if "checkpoints" in argument]
    claim = mounts[checkpoints]["persistentVolumeClaim"]["claimName"]
    assert claim == documents["PersistentVolumeClaim"]["metadata"]["name"]
    assert pod["restartPolicy"] == "OnFailure" and pod["securityContext"]["runAsNonRoot"] is True
