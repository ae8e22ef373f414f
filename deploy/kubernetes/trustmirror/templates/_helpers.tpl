{{- define "trustmirror.name" -}}
{{- if contains "trustmirror" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-trustmirror" (.Release.Name | trunc 38 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "trustmirror.selector" -}}
app.kubernetes.io/name: trustmirror
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The mirror's own pods, and not those on each node. */ -}}
{{- define "trustmirror.mirrorSelector" -}}
{{ include "trustmirror.selector" . }}
app.kubernetes.io/component: mirror
{{- end -}}

{{- define "trustmirror.labels" -}}
{{ include "trustmirror.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "trustmirror.image" -}}
{{- $repository := required "image.repository is empty: set it to where you pushed the image that the Dockerfile makes" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The configuration: the operator's, and what the chart decides. */ -}}
{{- define "trustmirror.config" -}}
{{- if not .Values.config.images -}}
{{- fail "config.images is empty: say which images may be served and whom to trust, as in config.example.yaml" -}}
{{- end -}}
{{- $listen := dict "address" ":5000" -}}
{{- with .Values.tls.secretName -}}
{{- $tls := dict "certificate" (printf "/secrets/%s/tls.crt" .) "key" (printf "/secrets/%s/tls.key" .) -}}
{{- if $.Values.tls.clientCA -}}
{{- $_ := set $tls "client_ca" (printf "/secrets/%s/ca.crt" .) -}}
{{- end -}}
{{- $_ := set $listen "tls" $tls -}}
{{- end -}}
{{- $storage := dict "filesystem" (dict "rootdirectory" "/data") -}}
{{- if .Values.storage.s3 -}}
{{- $storage = dict "s3" .Values.storage.s3 -}}
{{- end -}}
{{- $own := dict "listen" $listen "admin" (dict "address" ":5001") "storage" $storage -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) -}}
{{- end -}}

{{- /* The configuration for client and doctor: the names of the images. */ -}}
{{- define "trustmirror.nodesConfig" -}}
{{- $images := list -}}
{{- range .Values.config.images -}}
{{- $trust := dict "digests" (dict "none" (printf "sha256:%s" (repeat 64 "0"))) -}}
{{- $images = append $images (merge (dict "trust" $trust) (pick . "signed" "copies")) -}}
{{- end -}}
{{- toYaml (merge (dict "images" $images) (pick .Values.config "default_registry")) -}}
{{- end -}}

{{- /* What a container may do: nothing but use the network and its volumes. */ -}}
{{- define "trustmirror.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "trustmirror.scheme" -}}
{{- if .Values.tls.secretName }}https{{ else }}http{{ end -}}
{{- end -}}
