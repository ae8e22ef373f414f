{{- /* The pod of the StatefulSet and of the Deployment: all but the volume for data. */ -}}
{{- define "trustmirror.podMetadata" -}}
labels:
  {{- include "trustmirror.labels" . | nindent 2 }}
  app.kubernetes.io/component: mirror
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "trustmirror.podSpec" -}}
serviceAccountName: {{ include "trustmirror.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- /* The pause before the end, pulls under way, and time to spare. */}}
terminationGracePeriodSeconds: {{ add .Values.shutdownTimeoutSeconds 15 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "trustmirror.mirrorSelector" . | nindent 8 }}
containers:
  - name: trustmirror
    image: {{ include "trustmirror.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [serve, -c, /etc/trustmirror/config.yaml, --log-format, json, --shutdown-timeout, {{ .Values.shutdownTimeoutSeconds }}s]
    ports:
      - {name: registry, containerPort: 5000}
      - {name: admin, containerPort: 5001}
    {{- with .Values.env }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.storage.s3Secret }}
    envFrom:
      - secretRef: {name: {{ . }}}
    {{- end }}
    securityContext:
      {{- include "trustmirror.containerSecurity" . | nindent 6 }}
    startupProbe:
      httpGet: {path: /healthz, port: admin}
      periodSeconds: 2
      failureThreshold: 60
    livenessProbe:
      httpGet: {path: /healthz, port: admin}
      periodSeconds: 10
      timeoutSeconds: 5
    readinessProbe:
      httpGet: {path: /readyz, port: admin}
      periodSeconds: 10
      timeoutSeconds: 10
    lifecycle:
      # Until no more requests are sent to a pod that is to end.
      preStop: {sleep: {seconds: 10}}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    volumeMounts:
      - {name: data, mountPath: /data}
      - {name: config, mountPath: /etc/trustmirror, readOnly: true}
      {{- range include "trustmirror.secrets" . | fromYamlArray }}
      - {name: secret-{{ . }}, mountPath: /secrets/{{ . }}, readOnly: true}
      {{- end }}
volumes:
  # Mounted as folders, and so changes arrive in running pods.
  - name: config
    configMap: {name: {{ include "trustmirror.name" . }}}
  {{- range include "trustmirror.secrets" . | fromYamlArray }}
  - name: secret-{{ . }}
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
{{- end -}}

{{- /* All secrets that are mounted, each once. */ -}}
{{- define "trustmirror.secrets" -}}
{{- $names := .Values.secrets -}}
{{- with .Values.tls.secretName -}}
{{- $names = append $names . -}}
{{- end -}}
{{- uniq $names | toYaml -}}
{{- end -}}
