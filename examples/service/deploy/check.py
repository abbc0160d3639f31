"""What the deployment files promise, beyond being valid: no guessed delay, sums that are right, no secret in them."""

import re
import sys
from pathlib import Path

import compose_spec
import yaml

HERE = Path(__file__).parent
# Of all connections that the server allows, those that are not for the service.
ALLOWED, KEPT = 151, 10
# Given to the answers on their way out, in shutdown.rs.
MARGIN = 1

faults = []


def expect(holds, what):
    if not holds:
        faults.append(what)


def seconds(text):
    return float(re.fullmatch(r"([0-9.]+)s?", str(text))[1])


def names_only(node, name):
    """Every value that a key has, however deep."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from names_only(value, name)
    elif isinstance(node, list):
        for item in node:
            yield from names_only(item, name)


def kubernetes():
    text = (HERE / "kubernetes.yaml").read_text()
    documents = {document["kind"]: document for document in yaml.safe_load_all(text)}
    deployment, settings = documents["Deployment"]["spec"], documents["ConfigMap"]["data"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]

    common = "/api/v1/common/health/"
    for probe, route in {"startup": "liveness", "liveness": "liveness", "readiness": "readiness"}.items():
        asked = container[f"{probe}Probe"]["httpGet"]["path"]
        expect(asked == common + route, f"the {probe} probe asks {asked}")
    routes = (HERE / "../src/health.rs").read_text()
    for route in ("liveness", "readiness"):
        expect(f'"{common}{route}"' in routes, f"the service has no route {common}{route}")
    expect(not list(names_only(deployment, "initialDelaySeconds")), "a start delay is guessed")
    expect(not list(names_only(deployment, "minReadySeconds")), "a start delay is guessed")
    expect(not list(names_only(deployment, "command")), "something else is started first")

    steps = [seconds(settings[name]) for name in ("SHUTDOWN_DELAY", "REQUEST_TIMEOUT", "DATABASE_POOL_CLOSE_TIMEOUT")]
    grace = pod["terminationGracePeriodSeconds"]
    expect(grace > sum(steps) + MARGIN, f"an orderly end takes {sum(steps) + MARGIN} s, and has {grace}")

    rolling = deployment["strategy"]["rollingUpdate"]
    pods = deployment["replicas"] + rolling["maxSurge"] + 1
    each = int(settings["DATABASE_POOL_SIZE"]) + int(settings["DATABASE_MAX_OVERFLOW"])
    expect(pods * each <= ALLOWED - KEPT, f"{pods} pods with {each} connections are too many")
    worked_out = f"{pods} pods x ({settings['DATABASE_POOL_SIZE']} + {settings['DATABASE_MAX_OVERFLOW']}) = {pods * each}"
    expect(worked_out in text, f"the comment does not say: {worked_out}")

    expect("Secret" not in documents, "a secret is written down")
    (url,) = [variable for variable in container["env"] if variable["name"] == "DATABASE_URL"]
    expect("secretKeyRef" in url.get("valueFrom", {}), "DATABASE_URL is no reference to a secret")
    expect(pod["securityContext"]["runAsNonRoot"] is True, "it may run as root")
    labels = deployment["template"]["metadata"]["labels"]
    for kind, selector in {
        "Deployment": deployment["selector"]["matchLabels"],
        "Service": documents["Service"]["spec"]["selector"],
        "PodDisruptionBudget": documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    }.items():
        expect(selector.items() <= labels.items(), f"{kind} selects no pod")
    known = set(re.findall(r"`([A-Z_]+)`", (HERE / "../README.md").read_text()))
    for name in settings:
        expect(name in known, f"{name} is not in the service's README")


def compose():
    text = (HERE / "compose.yaml").read_text()
    file = compose_spec.PyCompose.from_yaml(text)
    file.validate()
    services = yaml.safe_load(text)["services"]
    service = services["service"]
    for name, other in services.items():
        expect("depends_on" not in other, f"{name} waits for another")
    expect(not list(names_only(service, "command")), "something else is started first")
    environment = service["environment"]
    delay = seconds(environment["SHUTDOWN_DELAY"])
    # The defaults of the other two.
    grace = seconds(service["stop_grace_period"])
    expect(grace > delay + 10 + MARGIN + 10, f"an orderly end has {grace} s")
    each = int(environment["DATABASE_POOL_SIZE"]) + int(environment["DATABASE_MAX_OVERFLOW"])
    (allowed,) = re.findall(r"--max-connections=(\d+)", " ".join(services["database"]["command"]))
    expect(each + KEPT <= int(allowed), f"{each} connections are too many for {allowed}")
    for name, value in [*environment.items(), *services["database"]["environment"].items()]:
        if "PASSWORD" in name or name == "DATABASE_URL":
            expect("${DATABASE_PASSWORD:?" in value or name == "MARIADB_RANDOM_ROOT_PASSWORD", f"{name} is a secret")
    expect((HERE / service["build"]["context"] / service["build"]["dockerfile"]).is_file(), "there is no such Dockerfile")


def dockerfile():
    text = (HERE / "Dockerfile").read_text()
    expect(re.search(r"^USER (?!0)\d+", text, re.MULTILINE), "it runs as root, or as a name")
    expect(not re.search(r"^(ENV|ARG) .*(PASSWORD|SECRET|TOKEN|DATABASE_URL)", text, re.MULTILINE), "a secret is in it")
    expect(re.search(r'^ENTRYPOINT \["', text, re.MULTILINE), "a shell would keep SIGTERM from the service")
    root = HERE / "../../.."
    # What is left out of the build's context may not be needed: the workspace's members, and what they include.
    kept = [line[1:] for line in (HERE / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in kept:
        expect(list(root.glob(path)), f"there is no {path}")


for check in (kubernetes, compose, dockerfile):
    check()
for fault in faults:
    print(f"check.py: {fault}", file=sys.stderr)
sys.exit(bool(faults))
