"""podman in the place of a cluster. `podman play kube` runs pods; what the controllers and the kubelet do on the way
there is done here: pods of workloads, files of secrets, waiting for health and for the end."""

from __future__ import annotations

import base64
import copy
import json
import os
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml
from chart import Document
from engine import attempt, podman, until

NETWORK = "training"


class Cluster:
    """Keeps objects and runs their pods. Names of pods are known in their network: a pod has its Service's name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[tuple[str, str], Document] = {}
        podman("network", "create", NETWORK)

    def apply(self, text: str) -> None:
        """Takes up the objects, as `kubectl apply` does, and starts the pods of StatefulSets and Jobs."""
        new = [document for document in yaml.safe_load_all(text) if document]
        for document in new:
            self.objects[document["kind"], document["metadata"]["name"]] = document
        for document in new:
            if document["kind"] in ("StatefulSet", "Job"):
                self.play(document)

    def play(self, workload: Document) -> None:
        """Runs the pod of a StatefulSet, a Job, or the Pod."""
        spec = copy.deepcopy(workload["spec"])
        name = spec.get("serviceName", workload["metadata"]["name"])
        pod = spec["template"]["spec"] if "template" in spec else spec
        for claim in spec.get("volumeClaimTemplates", []):
            volume = claim["metadata"]["name"]
            source = {"persistentVolumeClaim": {"claimName": f"{volume}-{name}"}}
            pod.setdefault("volumes", []).append({"name": volume, **source})
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                secret = volume.pop("secret")
                volume["hostPath"] = {"path": str(self._files(name, secret, pod)), "type": "Directory"}
            else:
                claim = volume["persistentVolumeClaim"]["claimName"]
                if attempt("podman", "volume", "exists", claim).returncode != 0:
                    podman("volume", "create", claim)
        for container in pod["containers"]:
            # The kubelet's. podman would run HTTP probes with a curl inside of the container, and publish ports to all.
            for key in ("startupProbe", "readinessProbe", "livenessProbe", "ports"):
                container.pop(key, None)
            for entry in container.get("env", []):
                if "valueFrom" in entry:
                    reference = entry.pop("valueFrom")["secretKeyRef"]
                    entry["value"] = self.secret(reference["name"])[reference["key"]].decode()
        metadata = {"name": name, "labels": workload["metadata"].get("labels", {})}
        pod_document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}
        path = self.folder / f"{name}.pod.yaml"
        path.write_text(yaml.safe_dump(pod_document))
        podman("play", "kube", "--network", NETWORK, str(path))

    def secret(self, name: str) -> dict[str, bytes]:
        data: dict[str, str] = self.objects["Secret", name]["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def _files(self, pod: str, volume: Document, spec: Document) -> Path:
        """What the kubelet makes of a secret's volume: files with their mode and the pod's group."""
        folder = self.folder / pod / str(volume["secretName"])
        folder.mkdir(parents=True, exist_ok=True)
        data = self.secret(volume["secretName"])
        wanted = volume.get("items", [{"key": key, "path": key} for key in data])
        for item in wanted:
            path = folder / item["path"]
            path.write_bytes(data[item["key"]])
            path.chmod(volume.get("defaultMode", 0o644))
            os.chown(path, 0, spec["securityContext"]["fsGroup"])
        return folder

    def restart(self, kind: str, name: str) -> None:
        """As when its node is drained: the pod is ended in order and made anew, on the same volume."""
        podman("play", "kube", "--down", str(self.folder / f"{name}.pod.yaml"))
        self.play(self.objects[kind, name])

    def ready(self, name: str) -> None:
        """Waits until the StatefulSet's readiness probe is content, and the server's own health check."""
        container = f"{name}-autolrs"
        spec = self.objects["StatefulSet", name]["spec"]["template"]["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in spec["ports"]}
        probe = spec["readinessProbe"]["httpGet"]

        def content() -> bool:
            networks = self.state(container)["NetworkSettings"]["Networks"]
            url = f"http://{networks[NETWORK]['IPAddress']}:{ports[probe['port']]}{probe['path']}"
            try:
                return bool(urlopen(url, timeout=5).status == 200)
            except OSError:
                return False

        until(content, lambda: self.log(container))
        podman("exec", container, "autolrs", "health")

    def state(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(podman("inspect", container))
        return dict(found)

    def wait(self, container: str) -> int:
        """Its exit code, once it has ended for good."""

        def state() -> dict[str, Any]:
            return dict(self.state(container)["State"])

        until(lambda: state()["Status"] in ("exited", "stopped"), lambda: self.log(container))
        return int(state()["ExitCode"])

    def log(self, container: str) -> str:
        done = attempt("podman", "logs", container)
        return done.stdout + done.stderr
