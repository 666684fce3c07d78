{{/* The name of all objects: the release's, with the chart's in it. */}}
{{- define "autolrs.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the server's pod is selected by; it never changes in a release's life. */}}
{{- define "autolrs.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "autolrs.labels" -}}
{{ include "autolrs.selector" . }}
{{ include "autolrs.origin" . }}
{{- end -}}

{{- define "autolrs.origin" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Labels of the pod of `helm test`, which the network policy lets in. */}}
{{- define "autolrs.testSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "autolrs.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "autolrs.tlsSecret" -}}
{{- default (printf "%s-tls" (include "autolrs.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{- define "autolrs.tokensSecret" -}}
{{- default (printf "%s-tokens" (include "autolrs.fullname" .)) .Values.tokens.existingSecret -}}
{{- end -}}

{{- define "autolrs.scheme" -}}
{{- ternary "https" "http" .Values.tls.enabled -}}
{{- end -}}

{{/* The server's arguments after `serve`, one in a line. */}}
{{- define "autolrs.args" -}}
- --listen=0.0.0.0:7461
- --http-listen=0.0.0.0:7462
- --data-dir=/var/lib/autolrs/data
{{- if .Values.tls.enabled }}
- --tls-cert=/etc/autolrs/tls/tls.crt
- --tls-key=/etc/autolrs/tls/tls.key
{{- if .Values.tls.clientCA.existingSecret }}
- --tls-client-ca=/etc/autolrs/client-ca/{{ .Values.tls.clientCA.key }}
{{- end }}
{{- end }}
{{- if .Values.tokens.enabled }}
- --tokens=/etc/autolrs/tokens/{{ .Values.tokens.key }}
{{- end }}
{{- if .Values.insecure }}
- --insecure
{{- end }}
{{- range $key, $value := .Values.settings }}
{{- /* A whole number is written out: helm would write 5000000 as 5e+06. */}}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
{{- $value = int64 $value }}
{{- end }}
- {{ printf "--%s=%v" ($key | replace "_" "-") $value | quote }}
{{- end }}
{{- end -}}

{{/* What no schema can say in words that help. */}}
{{- define "autolrs.check" -}}
{{- if not .Values.insecure -}}
{{- if not .Values.tls.enabled -}}
{{- fail "\n\ntls.enabled is false: whoever reaches the port could listen in. Enable TLS, or set insecure=true if everyone whom the network policy lets in may." -}}
{{- end -}}
{{- if not .Values.tokens.enabled -}}
{{- fail "\n\ntokens.enabled is false: whoever reaches the port could see and end every job. Enable tokens, or set insecure=true if everyone whom the network policy lets in may." -}}
{{- end -}}
{{- end -}}
{{- if .Values.tls.certManager.enabled -}}
{{- if not .Values.tls.enabled -}}
{{- fail "\n\ntls.certManager.enabled needs tls.enabled." -}}
{{- end -}}
{{- if not .Values.tls.certManager.issuerRef.name -}}
{{- fail "\n\ntls.certManager.issuerRef.name is missing: which Issuer shall sign the certificate?" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.clientCA.existingSecret (not .Values.tls.enabled) -}}
{{- fail "\n\ntls.clientCA needs tls.enabled: there are no clients' certificates without TLS." -}}
{{- end -}}
{{- end -}}
