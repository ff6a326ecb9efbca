{{/* What the configuration has unless somebody writes something else. */}}
{{- define "roadstead.config.defaults" -}}
log: { format: json }
{{- if and .Values.s3.bucket (eq .Values.mode "cluster") (eq .Values.scratch.type "emptyDir") }}
{{- /* The kubelet ends pods that use more than sizeLimit, which no file system tells them: half of what
       copies leave is for uploads, and half for what comes from upstream. */}}
{{- $rest := sub (include "roadstead.mebibytes" .Values.scratch.size | int64) (include "roadstead.mebibytes" .Values.hot.size | int64) }}
uploads: { max_node: {{ div $rest 2 }}MiB }
{{- end }}
{{- if and (not .Values.s3.bucket) .Values.persistence.maxSize }}
storage: { max_size: {{ .Values.persistence.maxSize }}B }
{{- else if not .Values.s3.bucket }}
{{- /* A share of the file system would be one of the node's disk where a storage class keeps no bounds. */}}
storage: { max_size: {{ div (mul (include "roadstead.mebibytes" .Values.persistence.size | int64) 8) 10 }}MiB }
{{- end }}
{{- end -}}

{{/* What follows from other values, which know it better. Each key here is one of roadstead.config.owned. */}}
{{- define "roadstead.config.given" -}}
listen: ":5000"
admin: {{ ternary "127.0.0.1:5001" ":5001" .Values.hostNetwork | quote }}
drain: {{ int .Values.drainSeconds }}s
{{- with include "roadstead.url" . }}
url: {{ . | quote }}
{{- end }}
{{- if .Values.adminPassword.existingSecret }}
admin_password_file: /run/secrets/roadstead/admin-password
{{- end }}
{{- if .Values.tls.existingSecret }}
tls:
  certificate: /run/secrets/roadstead/tls.crt
  key: /run/secrets/roadstead/tls.key
{{- end }}
storage:
  directory: /data
{{- with .Values.s3 }}
{{- if .bucket }}
  s3:
    bucket: {{ .bucket | quote }}
    {{- range $key, $value := dict "endpoint" .endpoint "region" .region "prefix" .prefix }}
    {{- if $value }}
    {{ $key }}: {{ $value | quote }}
    {{- end }}
    {{- end }}
    {{- if .existingSecret }}
    access_key: {{ .accessKey | default "${ROADSTEAD_S3_ACCESS_KEY}" | quote }}
    secret_key_file: /run/secrets/roadstead/s3-secret-key
    {{- end }}
    {{- if .caSecret }}
    ca_file: /run/secrets/roadstead/s3-ca.crt
    {{- end }}
    {{- with .extra }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  hot:
    size: {{ include "roadstead.mebibytes" $.Values.hot.size }}MiB
{{- end }}
{{- end }}
{{- with .Values.postgresql }}
{{- if .host }}
  {{- $query := printf "sslmode=%s" .sslmode }}
  {{- if .caSecret }}
  {{- $query = printf "%s&sslrootcert=/run/secrets/roadstead/postgresql-ca.crt" $query }}
  {{- end }}
  {{- range $key, $value := .parameters }}
  {{- $query = printf "%s&%s=%s" $query $key (toString $value | urlquery) }}
  {{- end }}
  catalog: {{ printf "postgres://%s@%s:%d/%s?%s" (urlquery .user) .host (int .port) (urlquery .database) $query | quote }}
  {{- if .existingSecret }}
  catalog_password_file: /run/secrets/roadstead/catalog-password
  {{- end }}
{{- end }}
{{- end }}
{{- if eq .Values.mode "cluster" }}
cluster:
  listen: ":5002"
  address: {{ .Values.cluster.address | quote }}
  name: ${POD_NAME}
  secret_file: /run/secrets/roadstead/cluster-secret
{{- end }}
{{- end -}}

{{/* roadstead.yaml: the defaults, what "config" says, and what follows from other values. */}}
{{- define "roadstead.config" -}}
{{- $config := include "roadstead.config.defaults" . | fromYaml -}}
{{- $config = mergeOverwrite $config (deepCopy (.Values.config | default dict)) -}}
{{- $config = mergeOverwrite $config (include "roadstead.config.given" . | fromYaml) -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The keys that "config" cannot have, and the value of the chart that is meant instead. */}}
{{- define "roadstead.config.owned" -}}
listen: service.port
admin: serviceMonitor
drain: drainSeconds
url: url
admin_password_file: adminPassword.existingSecret
tls: tls.existingSecret
cluster: cluster
storage.directory: persistence or scratch
storage.s3: s3
storage.hot: hot.size
storage.catalog: postgresql.host
storage.catalog_password_file: postgresql.existingSecret
{{- end -}}
