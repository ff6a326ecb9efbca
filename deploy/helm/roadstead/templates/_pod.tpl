{{/* The template of a node's pod, the same for both modes but for the volume "data". */}}
{{- define "roadstead.pod" -}}
metadata:
  labels:
    {{- /* No version: a node is not replaced because the chart is called otherwise. */}}
    {{- include "roadstead.selector" . | nindent 4 }}
    {{- with .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # What is changed in the configuration is in force when it has been rolled out.
    checksum/config: {{ include "roadstead.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "roadstead.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # Longer than preStopSeconds and drainSeconds together.
  terminationGracePeriodSeconds: {{ include "roadstead.grace" . }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: roadstead
      image: {{ include "roadstead.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      {{- with include "roadstead.env" . | trim }}
      env:
        {{- . | trim | nindent 8 }}
      {{- end }}
      ports:
        - { name: registry, containerPort: 5000 }
        {{- if not .Values.hostNetwork }}
        - { name: admin, containerPort: 5001 }
        {{- end }}
        {{- if eq .Values.mode "cluster" }}
        - { name: cluster, containerPort: 5002 }
        {{- end }}
      # Health is told on the admin address, by plain HTTP whatever the registry speaks.
      startupProbe:
        httpGet: { path: /healthz, {{ include "roadstead.admin" . }} }
        periodSeconds: 2
        timeoutSeconds: 5
        # Five minutes, for a new version that has to rewrite a large catalog.
        failureThreshold: 150
      livenessProbe:
        httpGet: { path: /healthz, {{ include "roadstead.admin" . }} }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # A node without its bucket, its database or the others is ready: it serves what it can.
      readinessProbe:
        httpGet: { path: /readyz, {{ include "roadstead.admin" . }} }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- if .Values.preStopSeconds }}
      # Until nobody sends new requests here any more: SIGTERM turns them away at once.
      lifecycle:
        preStop:
          sleep: { seconds: {{ int .Values.preStopSeconds }} }
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - { name: data, mountPath: /data }
        # Folders and not single files, so that what is changed in a Secret arrives.
        - { name: config, mountPath: /etc/roadstead, readOnly: true }
        {{- if include "roadstead.secrets" . | trim }}
        - { name: secrets, mountPath: /run/secrets/roadstead, readOnly: true }
        {{- end }}
        {{- range .Values.secretMounts }}
        - { name: secret-{{ . | replace "." "-" }}, mountPath: /run/secrets/{{ . }}, readOnly: true }
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap: { name: {{ include "roadstead.fullname" . }} }
    {{- with include "roadstead.secrets" . | trim }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- . | trim | nindent 10 }}
    {{- end }}
    {{- range .Values.secretMounts }}
    - name: secret-{{ . | replace "." "-" }}
      secret: { secretName: {{ . }}, defaultMode: 0440 }
    {{- end }}
    {{- with include "roadstead.data" . | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "roadstead.placement" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Where the kubelet asks. */}}
{{- define "roadstead.admin" -}}
{{ ternary "host: 127.0.0.1, port: 5001" "port: admin" .Values.hostNetwork }}
{{- end -}}

{{- define "roadstead.env" -}}
{{- with .Values.resources.limits }}
{{- with .memory }}
# The garbage collector works harder before the limit is reached.
- name: GOMEMLIMIT
  value: {{ div (mul (include "roadstead.mebibytes" . | int64) 9) 10 }}MiB
{{- end }}
{{- end }}
{{- if eq .Values.mode "cluster" }}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: POD_IP
  valueFrom: { fieldRef: { fieldPath: status.podIP } }
{{- end }}
{{- with .Values.s3 }}
{{- if and .existingSecret (not .accessKey) }}
- name: ROADSTEAD_S3_ACCESS_KEY
  valueFrom: { secretKeyRef: { name: {{ .existingSecret }}, key: {{ .accessKeyKey }} } }
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the configuration names files of, in one folder. */}}
{{- define "roadstead.secrets" -}}
{{- $v := .Values -}}
{{- if $v.adminPassword.existingSecret }}
- secret: { name: {{ $v.adminPassword.existingSecret }}, items: [{ key: {{ $v.adminPassword.key }}, path: admin-password }] }
{{- end }}
{{- if $v.tls.existingSecret }}
- secret: { name: {{ $v.tls.existingSecret }}, items: [{ key: tls.crt, path: tls.crt }, { key: tls.key, path: tls.key }] }
{{- end }}
{{- if $v.s3.existingSecret }}
- secret: { name: {{ $v.s3.existingSecret }}, items: [{ key: {{ $v.s3.secretKeyKey }}, path: s3-secret-key }] }
{{- end }}
{{- if $v.s3.caSecret }}
- secret: { name: {{ $v.s3.caSecret }}, items: [{ key: {{ $v.s3.caKey }}, path: s3-ca.crt }] }
{{- end }}
{{- if $v.postgresql.existingSecret }}
- secret: { name: {{ $v.postgresql.existingSecret }}, items: [{ key: {{ $v.postgresql.passwordKey }}, path: catalog-password }] }
{{- end }}
{{- if $v.postgresql.caSecret }}
- secret: { name: {{ $v.postgresql.caSecret }}, items: [{ key: {{ $v.postgresql.caKey }}, path: postgresql-ca.crt }] }
{{- end }}
{{- if eq $v.mode "cluster" }}
- secret: { name: {{ $v.cluster.existingSecret }}, items: [{ key: {{ $v.cluster.key }}, path: cluster-secret }] }
{{- end }}
{{- end -}}

{{/* The volume "data", unless the StatefulSet claims it. */}}
{{- define "roadstead.data" -}}
{{- if eq .Values.mode "cluster" }}
{{- if eq .Values.scratch.type "emptyDir" }}
- name: data
  emptyDir: { sizeLimit: {{ .Values.scratch.size }} }
{{- else }}
- name: data
  ephemeral:
    volumeClaimTemplate:
      metadata:
        labels:
          {{- include "roadstead.selector" . | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .Values.scratch.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources: { requests: { storage: {{ .Values.scratch.size }} } }
{{- end }}
{{- else if .Values.persistence.existingClaim }}
- name: data
  persistentVolumeClaim: { claimName: {{ .Values.persistence.existingClaim }} }
{{- end }}
{{- end -}}

{{/* Nodes of a cluster are apart from each other. */}}
{{- define "roadstead.placement" -}}
{{- $affinity := deepCopy (.Values.affinity | default dict) -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "roadstead.selector" . | fromYaml)) -}}
{{- if eq .Values.mode "cluster" -}}
{{- if eq .Values.antiAffinity "required" -}}
{{- $affinity = mergeOverwrite (dict "podAntiAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term))) $affinity -}}
{{- else if eq .Values.antiAffinity "preferred" -}}
{{- $affinity = mergeOverwrite (dict "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term)))) $affinity -}}
{{- end -}}
{{- end -}}
{{- with $affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not (kindIs "invalid" .Values.topologySpreadConstraints) }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- else if eq .Values.mode "cluster" }}
topologySpreadConstraints:
  {{- range tuple "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    # Those of one revision among themselves: during an update the old ones are on their way out.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "roadstead.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}
