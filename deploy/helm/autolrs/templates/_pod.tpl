{{/* What the server's pod and the pod of `helm test` have in common. */}}

{{- define "autolrs.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "autolrs.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{/* Where a command finds the server on this host, and whom it trusts. */}}
{{- define "autolrs.clientEnvironment" -}}
{{- $ := index . 0 -}}
- name: AUTOLRS_SERVER
  value: {{ include "autolrs.scheme" $ }}://{{ index . 1 }}:7461
{{- if and $.Values.tls.enabled $.Values.tls.caKey }}
- name: AUTOLRS_CA
  value: /etc/autolrs/tls/{{ $.Values.tls.caKey }}
{{- end }}
{{- end -}}

{{/* Readiness is the store's: gRPC health. The kubelet's gRPC probes can't speak TLS; /readyz says the same. */}}
{{- define "autolrs.ready" -}}
{{- if .Values.tls.enabled -}}
httpGet:
  path: /readyz
  port: http
{{- else -}}
grpc:
  port: 7461
{{- end }}
{{- end -}}
