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

{{- /* The image of servers and gateways: where none is named, the one that they have had, which the operator's Deployment
       tells. Another release of the operator alone replaces no pod of a model. */}}
{{- define "unimodel.servingImage" -}}
{{- $image := .Values.serving.image }}
{{- $known := lookup "apps/v1" "Deployment" .Release.Namespace (include "unimodel.name" .) }}
{{- range dig "spec" "template" "spec" "containers" (list) $known }}
{{- range .env }}
{{- if eq .name "UNIMODEL_IMAGE" }}{{ $image = $image | default .value }}{{ end }}
{{- end }}
{{- end }}
{{- $image | default (include "unimodel.image" .) }}
{{- end }}

{{- /* Cluster roles are the cluster's: two releases in two namespaces need two names. */}}
{{- define "unimodel.clusterName" -}}
{{ .Release.Namespace }}-{{ include "unimodel.name" . }}
{{- end }}

{{- define "unimodel.namespaces" -}}
{{- .Values.namespaces | default (list .Release.Namespace) | toJson }}
{{- end }}
