{{- define "unimodel.name" -}}
{{- if contains "unimodel" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}-operator
{{- else }}{{ .Release.Name | trunc 36 | trimSuffix "-" }}-unimodel-operator
{{- end }}
{{- end }}

{{- define "unimodel.selector" -}}
app.kubernetes.io/name: unimodel
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "unimodel.labels" -}}
{{ include "unimodel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: unimodel
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "unimodel.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Cluster roles are the cluster's: two releases in two namespaces need two names. */}}
{{- define "unimodel.clusterName" -}}
{{ .Release.Namespace }}-{{ include "unimodel.name" . }}
{{- end }}

{{- define "unimodel.namespaces" -}}
{{- .Values.namespaces | default (list .Release.Namespace) | toJson }}
{{- end }}
