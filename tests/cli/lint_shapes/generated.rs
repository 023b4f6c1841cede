//! What programs print, which quote, fold and indent as nobody does by hand.

use super::{also_of_windows, assert_found};

#[test]
fn what_helm_and_kustomize_print() {
    assert_found(also_of_windows((
        "several documents, as Helm renders them",
        "---
# Source: shop/templates/namespace.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  annotations: {egressway.dev/default-rules: 'deny to metadata; allow «443/tpc»', a: b}
---
# Source: shop/templates/empty.yaml
---
# Source: shop/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: &labels
    app.kubernetes.io/name: web
spec:
  selector: {matchLabels: *labels}
  template:
    metadata:
      labels: *labels
      annotations:
        checksum/config: 4b1d
        egressway.dev/rules: |
          # the bank

          allow 443/tcp to 198.51.100.0/24
          allow to «203.0.113.0/33»
    spec:
      containers:
        - name: web
          image: \"registry.example/web:1.2\"
          args:
            - --config=/etc/web.yaml
            - |
              egressway.dev/rules: allow 443/tpc
...
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data:
  rules: allow 443/tpc
  nginx.conf: |
    location ~ ^/(a|b)$ { return 404; }
",
    )));
    assert_found(also_of_windows((
        "a List with a CronJob, a DaemonSet and a StatefulSet",
        "apiVersion: v1
kind: List
metadata:
  resourceVersion: ''
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: report}
  spec:
    schedule: '0 3 * * *'
    jobTemplate:
      spec:
        template:
          metadata:
            annotations:
              egressway.dev/rules: >-
                allow 587/tcp to «10.0.0.1-10.0.0.0»,
                203.0.113.7
          spec: {containers: [{name: report, image: report}]}
- apiVersion: apps/v1
  kind: DaemonSet
  metadata:
    name: agent
    annotations:
      deprecated.daemonset.template.generation: \"1\"
      «egressway.dev/rules»: allow
  spec:
    template:
      metadata:
        annotations:
          egressway.dev/rules: allow 443/tcp
      spec:
        hostNetwork: «true»
        containers: [{name: agent, image: agent}]
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: db}
  spec:
    template:
      metadata:
        annotations:
          «egressway.dev/rule»: deny
      spec: {containers: [{name: db, image: db}]}
",
    )));
}
