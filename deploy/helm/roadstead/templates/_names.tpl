{{- define "roadstead.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: what is appended, and a pod's ordinal, has to fit into 63. */}}
{{- define "roadstead.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "roadstead.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "roadstead.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "roadstead.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "roadstead.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "roadstead.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What is the same of any pod of the release. */}}
{{- define "roadstead.release" -}}
app.kubernetes.io/name: {{ include "roadstead.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What a node of the registry is found by. It never changes: selectors cannot. */}}
{{- define "roadstead.selector" -}}
{{ include "roadstead.release" . }}
app.kubernetes.io/component: registry
{{- end -}}

{{- define "roadstead.labels" -}}
{{ include "roadstead.selector" . }}
{{ include "roadstead.more" . }}
{{- end -}}

{{- define "roadstead.more" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "roadstead.replicas" -}}
{{- if kindIs "invalid" .Values.replicas -}}
{{- ternary 2 1 (eq .Values.mode "cluster") -}}
{{- else -}}
{{- int .Values.replicas -}}
{{- end -}}
{{- end -}}

{{/* How clients reach it, as far as that is known. */}}
{{- define "roadstead.url" -}}
{{- if .Values.url -}}
{{- .Values.url -}}
{{- else if .Values.ingress.enabled -}}
{{- printf "%s://%s" (ternary "https" "http" (or (ne .Values.ingress.tls.existingSecret "") (ne .Values.tls.existingSecret ""))) .Values.ingress.host -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes such as 40Gi, in MiB. */}}
{{- define "roadstead.mebibytes" -}}
{{- $n := regexFind "^[0-9]+" (toString .) | int64 -}}
{{- $unit := regexFind "[A-Za-z]+$" (toString .) -}}
{{- mul $n (get (dict "" 0 "Mi" 1 "Gi" 1024 "Ti" 1048576) $unit) -}}
{{- end -}}

{{/* Longer than everything that happens after a pod is told to end. */}}
{{- define "roadstead.grace" -}}
{{- add (int .Values.preStopSeconds) (int .Values.drainSeconds) 15 -}}
{{- end -}}
