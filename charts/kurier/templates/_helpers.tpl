{{- define "kurier.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "kurier.labels" -}}
app.kubernetes.io/name: kurier
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kurier.operatorSelector" -}}
app.kubernetes.io/name: kurier
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "kurier.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The operator refuses these as well; here before anything is replaced. */}}
{{- define "kurier.leaseArguments" -}}
{{- $lease := .Values.leaderElection -}}
{{- if le (int $lease.leaseDurationSeconds) (int $lease.renewDeadlineSeconds) -}}
{{- fail "leaderElection.leaseDurationSeconds must be greater than renewDeadlineSeconds: otherwise two operators lead at once" -}}
{{- end -}}
{{- if le (int $lease.renewDeadlineSeconds) (int $lease.retryPeriodSeconds) -}}
{{- fail "leaderElection.renewDeadlineSeconds must be greater than retryPeriodSeconds: otherwise the leader stops before it renews" -}}
{{- end -}}
- --lease-duration-seconds={{ $lease.leaseDurationSeconds }}
- --renew-deadline-seconds={{ $lease.renewDeadlineSeconds }}
- --retry-period-seconds={{ $lease.retryPeriodSeconds }}
{{- end -}}
