"""A container runtime's part in CNI, done as libcni does it: what a plugin has to know goes into its
environment and its stdin, one plugin after the other, each with the result of the one before."""

import json
import shutil
import subprocess

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


class Refused(Exception):
    """A plugin's error. The message is what `kubectl describe pod` would show."""

    def __init__(self, plugin, error):
        super().__init__(error["msg"])
        self.plugin, self.code, self.msg = plugin, error["code"], error["msg"]


def merged(conf, overrides):
    """`conf` with the values of `overrides`, also inside of objects."""
    both = conf | overrides
    for key, value in overrides.items():
        if isinstance(value, dict) and key in conf:
            both[key] = merged(conf[key], value)
    return both


class Runtime:
    def __init__(self, conflist, node, directories, overrides):
        """`conflist`: its path; `node`: the namespace in which plugins run; `directories`: where
        they are; `overrides`: for each plugin type, keys to set otherwise than the conflist does."""
        with open(conflist, encoding="utf-8") as file:
            self.conf = json.load(file)
        self.node, self.directories, self.overrides = node, directories, overrides

    def _call(self, verb, plugin, pod, result):
        conf = merged(plugin, self.overrides.get(plugin["type"], {}))
        conf |= {"name": self.conf["name"], "cniVersion": self.conf["cniVersion"]}
        if ANNOTATIONS in plugin.get("capabilities", {}):
            conf["runtimeConfig"] = {ANNOTATIONS: pod.annotations}
        if result is not None:
            conf["prevResult"] = result
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container,
            "CNI_NETNS": f"/run/netns/{pod.netns}",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name}",
            "CNI_PATH": ":".join(self.directories),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        binary = shutil.which(plugin["type"], path=":".join(self.directories))
        if binary is None:
            raise SystemExit(f"no plugin {plugin['type']} in {' or '.join(self.directories)}")
        run = subprocess.run(
            ["ip", "netns", "exec", self.node, binary],
            env=environment, input=json.dumps(conf), capture_output=True, text=True, check=False,
        )
        if run.returncode != 0:
            try:
                raise Refused(plugin["type"], json.loads(run.stdout))
            except json.JSONDecodeError:
                raise SystemExit(f"{plugin['type']} {verb}: {run.stdout}{run.stderr}") from None
        return json.loads(run.stdout) if verb == "ADD" else None

    def add(self, pod):
        """Attaches a pod, and undoes everything if one plugin refuses. The last plugin's result."""
        result = None
        try:
            for plugin in self.conf["plugins"]:
                result = self._call("ADD", plugin, pod, result)
        except Refused:
            self.delete(pod)
            raise
        return result

    def delete(self, pod):
        for plugin in reversed(self.conf["plugins"]):
            self._call("DEL", plugin, pod, None)
