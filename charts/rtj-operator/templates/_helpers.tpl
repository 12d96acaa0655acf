{{/* Name of everything in the release. */}}
{{- define "rtj-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Name of a cluster-wide object: two namespaces may have a release of the same name. */}}
{{- define "rtj-operator.clusterName" -}}
{{ .Release.Namespace }}:{{ include "rtj-operator.fullname" . }}
{{- end }}

{{/*
Name of the Service and the ServiceMonitor. Unlike a release, a Service may have no dot in its name,
no digit at the beginning, and 63 characters at most.
*/}}
{{- define "rtj-operator.metricsName" -}}
{{- $name := include "rtj-operator.fullname" . | replace "." "-" }}
{{- if regexMatch "^[0-9]" $name }}
{{- $name = printf "rtj-%s" $name }}
{{- end }}
{{- $name | trunc 55 | trimSuffix "-" }}-metrics
{{- end }}

{{- define "rtj-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "rtj-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "rtj-operator.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "rtj-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "rtj-operator.labels" -}}
{{ include "rtj-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The operator's service account, as the subject of a binding. */}}
{{- define "rtj-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "rtj-operator.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{/* What the operator may do where jobs run. */}}
{{- define "rtj-operator.jobRules" -}}
- apiGroups: [resumable.training]
  resources: [resumabletrainingjobs]
  verbs: [get, list, watch, delete]
- apiGroups: [resumable.training]
  resources: [resumabletrainingjobs/status]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims]
  verbs: [get]
# Each job has a service account whose Role allows one Lease, and nobody can grant more than they
# have: so update and patch on Leases.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update, patch]
- apiGroups: [""]
  resources: [events]
  # list: why a volume is not attached, of pods that wait for a claim that one node can have.
  verbs: [create, list]
{{- end }}
