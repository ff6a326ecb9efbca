{{/* What values say together, and what values.schema.json would only call a pattern that does not match. */}}
{{- define "roadstead.check" -}}
{{- $wrong := list -}}
{{- $v := .Values -}}
{{- $config := $v.config | default dict -}}
{{- $cluster := eq $v.mode "cluster" -}}
{{- $replicas := include "roadstead.replicas" . | int -}}
{{- $sizes := dict "persistence.size" $v.persistence.size "scratch.size" $v.scratch.size -}}
{{- if $v.persistence.maxSize -}}
{{- $_ := set $sizes "persistence.maxSize" $v.persistence.maxSize -}}
{{- end -}}
{{- if ne (toString $v.hot.size) "0" -}}
{{- $_ := set $sizes "hot.size" $v.hot.size -}}
{{- end -}}
{{- with $v.resources.limits -}}
{{- with .memory -}}
{{- $_ := set $sizes "resources.limits.memory" . -}}
{{- end -}}
{{- end -}}
{{- range $name, $size := $sizes -}}
{{- if not (regexMatch "^[1-9][0-9]*(Mi|Gi|Ti)$" $size) -}}
{{- $wrong = append $wrong (printf "%s: %q is no size that is understood here; write a whole number and a unit, such as 512Mi, 100Gi or 2Ti" $name $size) -}}
{{- end -}}
{{- end -}}
{{- range $name, $url := dict "url" $v.url "s3.endpoint" $v.s3.endpoint -}}
{{- if and $url (not (regexMatch "^https?://[^/?# ]+/?$" $url)) -}}
{{- $wrong = append $wrong (printf "%s: %q is not the URL of a server; write scheme and host, such as %q" $name $url (printf "https://%s" (regexReplaceAll "^[a-z0-9]+://|[/?#].*$" $url "" | default "mirror.example.com"))) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "^https?://.+:5002$" $v.cluster.address) -}}
{{- $wrong = append $wrong (printf "cluster.address: %q is not where nodes listen; write https://${POD_IP}:5002, or https://[${POD_IP}]:5002 with IPv6" $v.cluster.address) -}}
{{- end -}}
{{- if and $v.ingress.host (not (regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" $v.ingress.host)) -}}
{{- $wrong = append $wrong (printf "ingress.host: %q is not a name; write it in lower case without scheme and port, such as mirror.example.com" $v.ingress.host) -}}
{{- end -}}
{{- range $key, $by := dict "password" "postgresql.existingSecret" "sslmode" "postgresql.sslmode" "sslrootcert" "postgresql.caSecret" -}}
{{- if hasKey ($v.postgresql.parameters | default dict) $key -}}
{{- $wrong = append $wrong (printf "postgresql.parameters.%s: set %s instead" $key $by) -}}
{{- end -}}
{{- end -}}
{{- if and (not $cluster) (gt $replicas 1) -}}
{{- $wrong = append $wrong (printf "replicas: %d nodes cannot share the volume of mode: single; set mode: cluster with s3.bucket and postgresql.host, or replicas: 1" $replicas) -}}
{{- end -}}
{{- if and $cluster (not $v.s3.bucket) -}}
{{- $wrong = append $wrong "s3.bucket: the nodes of mode: cluster have their content in one bucket; name it, or set mode: single" -}}
{{- end -}}
{{- if and $cluster (not $v.postgresql.host) -}}
{{- $wrong = append $wrong "postgresql.host: the nodes of mode: cluster have their catalog in one PostgreSQL; name its host, or set mode: single" -}}
{{- end -}}
{{- if and $cluster (not $v.cluster.existingSecret) -}}
{{- $wrong = append $wrong (printf "cluster.existingSecret: the nodes of mode: cluster know each other by a secret; make one with \"kubectl create secret generic roadstead-cluster --namespace %s --from-literal=secret=$(openssl rand -hex 32)\", and name it" .Release.Namespace) -}}
{{- end -}}
{{- if and $cluster $v.hostNetwork -}}
{{- $wrong = append $wrong "hostNetwork: is for mode: single; the nodes of mode: cluster reach each other by the network of pods" -}}
{{- end -}}
{{- if and $v.hostNetwork $v.serviceMonitor.enabled -}}
{{- $wrong = append $wrong "serviceMonitor.enabled: with hostNetwork: true metrics are for the node itself, because they would be for everybody who reaches it; set one of the two to false" -}}
{{- end -}}
{{- if and $v.s3.accessKey (not $v.s3.existingSecret) -}}
{{- $wrong = append $wrong "s3.accessKey: is there without its secret key; name the Secret that has it as s3.existingSecret, or remove the line for the IAM role of the service account" -}}
{{- end -}}
{{- range tuple (tuple "s3.existingSecret" $v.s3.existingSecret) (tuple "s3.caSecret" $v.s3.caSecret) (tuple "s3.endpoint" $v.s3.endpoint) -}}
{{- if and (index . 1) (not $v.s3.bucket) -}}
{{- $wrong = append $wrong (printf "%s: there is no bucket that it is for; name s3.bucket, or remove the line" (index . 0)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.postgresql.existingSecret (not $v.postgresql.host) -}}
{{- $wrong = append $wrong "postgresql.existingSecret: there is no database that it is for; name postgresql.host, or remove the line" -}}
{{- end -}}
{{- range $key, $by := dict "bucket" "s3.bucket" "endpoint" "s3.endpoint" "region" "s3.region" "prefix" "s3.prefix" "access_key" "s3.accessKey" "secret_key" "s3.existingSecret" "secret_key_file" "s3.existingSecret" "session_token" "s3.existingSecret" "ca_file" "s3.caSecret" -}}
{{- if hasKey ($v.s3.extra | default dict) $key -}}
{{- $wrong = append $wrong (printf "s3.extra.%s: set %s instead" $key $by) -}}
{{- end -}}
{{- end -}}
{{- if and $v.s3.bucket (or $cluster (not $v.persistence.existingClaim)) (not $wrong) -}}
{{- $of := ternary "scratch" "persistence" $cluster -}}
{{- $room := ternary $v.scratch.size $v.persistence.size $cluster -}}
{{- if gt (mul (include "roadstead.mebibytes" $v.hot.size | int64) 4) (mul (include "roadstead.mebibytes" $room | int64) 3) -}}
{{- $wrong = append $wrong (printf "hot.size: copies of %s leave too little of %s.size %s for what is on its way in; set at most three quarters of it" (toString $v.hot.size) $of $room) -}}
{{- end -}}
{{- end -}}
{{- if and $v.persistence.maxSize $v.s3.bucket -}}
{{- $wrong = append $wrong "persistence.maxSize: content is in the bucket; set config.storage.max_size for a bound of that, or remove the line" -}}
{{- end -}}
{{- if and $v.tls.existingSecret $v.ingress.tls.existingSecret -}}
{{- $wrong = append $wrong "ingress.tls.existingSecret: the registry speaks TLS itself by tls.existingSecret; set one of the two: the former where the ingress ends TLS, the latter where it passes TLS on" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- $wrong = append $wrong "ingress.host: is empty; write the name that clients use, such as mirror.example.com" -}}
{{- end -}}
{{- if and $v.ingress.tls.existingSecret (not $v.ingress.enabled) -}}
{{- $wrong = append $wrong "ingress.tls.existingSecret: there is no ingress; set ingress.enabled: true, or tls.existingSecret for a registry that speaks TLS itself" -}}
{{- end -}}
{{- if and $v.service.nodePort (eq $v.service.type "ClusterIP") -}}
{{- $wrong = append $wrong (printf "service.nodePort: %d is of no use with service.type: ClusterIP; set NodePort or LoadBalancer, or remove the line" (int $v.service.nodePort)) -}}
{{- end -}}
{{- if and (or $v.service.loadBalancerClass $v.service.loadBalancerSourceRanges) (ne $v.service.type "LoadBalancer") -}}
{{- $wrong = append $wrong (printf "service.loadBalancerClass, service.loadBalancerSourceRanges: are for service.type: LoadBalancer, and that is %s" $v.service.type) -}}
{{- end -}}
{{- if and $v.service.externalTrafficPolicy (eq $v.service.type "ClusterIP") -}}
{{- $wrong = append $wrong "service.externalTrafficPolicy: is for service.type: NodePort or LoadBalancer; remove the line" -}}
{{- end -}}
{{- range $key, $by := include "roadstead.config.owned" . | fromYaml -}}
{{- $parts := splitList "." $key -}}
{{- $above := $config -}}
{{- if gt (len $parts) 1 -}}
{{- $above = get $config (first $parts) -}}
{{- end -}}
{{- if and (kindIs "map" $above) (hasKey (ternary $above dict (kindIs "map" $above)) (last $parts)) -}}
{{- $wrong = append $wrong (printf "config.%s: the chart writes it; set %s instead" $key $by) -}}
{{- end -}}
{{- end -}}
{{- range $name, $project := $config.projects -}}
{{- if kindIs "map" $project -}}
{{- if and (hasKey $project "password") (not (hasPrefix "${" (toString $project.password))) -}}
{{- $wrong = append $wrong (printf "config.projects.%s.password: would be for everybody to read in a ConfigMap; keep it in a Secret that secretMounts names, and write password_file: /run/secrets/SECRET/KEY" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $config.oidc -}}
{{- if not (include "roadstead.url" $) -}}
{{- $wrong = append $wrong "url: whoever signs in by config.oidc is sent back to it; write the name that people use, such as https://mirror.example.com" -}}
{{- end -}}
{{- if and (hasKey . "client_secret") (not (hasPrefix "${" (toString .client_secret))) -}}
{{- $wrong = append $wrong "config.oidc.client_secret: would be for everybody to read in a ConfigMap; keep it in a Secret that secretMounts names, and write client_secret_file: /run/secrets/SECRET/KEY" -}}
{{- end -}}
{{- end -}}
{{- if has "roadstead" $v.secretMounts -}}
{{- $wrong = append $wrong "secretMounts: /run/secrets/roadstead is the chart's own folder; give the Secret another name" -}}
{{- end -}}
{{- with $wrong -}}
{{- fail (printf "\n\nThese values cannot be used:\n- %s\n" (join "\n- " .)) -}}
{{- end -}}
{{- end -}}
