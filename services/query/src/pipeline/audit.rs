//! In: a query that may run, or one that was refused. Out: its audit record, acknowledged by the bus, and the start of
//! its OpenLineage run. Never: a query that goes on without them (ACCOUNTED).

use chrono::Utc;
use mesh_bus::{Bus, Producer};
use mesh_policy::PrincipalFacts;
use mesh_proto::ProtoError;
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{Access, AuditRecord, Decision, Usage};
use mesh_runtime::telemetry::current;
use uuid::Uuid;

use super::QueryRequest;
use super::plan::Planned;
use crate::error::QueryError;
use crate::lineage::event::Run;

/// Where records of queries are written.
#[derive(Debug, Clone)]
pub struct Ledger {
    producer: Producer,
    /// `/meshwork/<cluster id>/query`.
    source: String,
    cluster: String,
}

impl Ledger {
    pub fn new(producer: Producer, bus: &Bus) -> Self {
        Self { producer, source: bus.source("query"), cluster: bus.cluster_id().to_owned() }
    }

    /// The OpenLineage namespace of this mesh.
    pub fn namespace(&self) -> String {
        format!("meshwork/{}", self.cluster)
    }

    /// Records that a query may run, and that it starts.
    pub async fn allowed(
        &self,
        request: &QueryRequest,
        reader: &PrincipalFacts,
        planned: &Planned,
    ) -> Result<(), QueryError> {
        let accesses = planned.tables.iter().map(|table| Access {
            product: table.product.clone(),
            major: table.major,
            table: table.table.clone(),
            snapshot_id: table.snapshot_id.unwrap_or_default(),
            columns: planned.columns_of(table).into_iter().collect(),
            masked_columns: table.masked.clone(),
            row_filtered: table.row_filtered,
        });
        let record = AuditRecord {
            decision: Decision::Allowed.into(),
            accesses: accesses.collect(),
            policy_revision: planned.policy_revision,
            ..record(request, reader)
        };
        mesh_runtime::fault::point("query.audit.before_publish");
        self.publish_audit(request.id, &record).await?;
        mesh_runtime::fault::point("query.audit.after_publish");
        let start = Run::new(self.namespace(), request, planned).start();
        self.lineage(request.id, &key(&record), "start", &start).await
    }

    /// Records that a query was refused.
    pub async fn denied(
        &self,
        request: &QueryRequest,
        reader: &PrincipalFacts,
        refusal: &QueryError,
    ) -> Result<(), QueryError> {
        let record = AuditRecord {
            decision: Decision::Denied.into(),
            reason: refusal.code().to_owned(),
            ..record(request, reader)
        };
        self.publish_audit(request.id, &record).await
    }

    async fn publish_audit(&self, id: Uuid, record: &AuditRecord) -> Result<(), QueryError> {
        let event = Event::new(types::AUDIT, &self.source, id.to_string(), Utc::now(), record).map_err(proto)?;
        let event = event.keyed(key(record)).about(record.query_id.clone()).traced(current());
        self.publish(topics::AUDIT, &event).await
    }

    /// Writes an OpenLineage event.
    pub async fn lineage(
        &self,
        id: Uuid,
        key: &str,
        moment: &str,
        event: &serde_json::Value,
    ) -> Result<(), QueryError> {
        let event =
            Event::new(types::LINEAGE, &self.source, format!("{id}-{moment}"), Utc::now(), event).map_err(proto)?;
        self.publish(topics::LINEAGE, &event.keyed(key).about(id.to_string()).traced(current())).await
    }

    /// Writes what a query cost.
    pub async fn usage(&self, usage: &Usage) -> Result<(), QueryError> {
        let id = format!("{}-{}", usage.query_id, usage.product);
        let event = Event::new(types::USAGE, &self.source, id, Utc::now(), usage).map_err(proto)?;
        self.publish(topics::USAGE, &event.keyed(usage.product.clone()).traced(current())).await
    }

    async fn publish(&self, topic: &str, event: &Event) -> Result<(), QueryError> {
        self.producer.publish(topic, event).await.map_err(|error| QueryError::Audit(Box::new(error)))?;
        Ok(())
    }
}

fn record(request: &QueryRequest, reader: &PrincipalFacts) -> AuditRecord {
    AuditRecord {
        query_id: request.id.to_string(),
        principal: reader.name.clone(),
        roles: reader.roles.clone(),
        statement: request.sql.clone(),
        traceparent: current().map(|trace| trace.to_string()).unwrap_or_default(),
        at: Some(mesh_proto::timestamp(Utc::now())),
        ..Default::default()
    }
}

/// The first product that is read; the query itself where there is none.
fn key(record: &AuditRecord) -> String {
    record.accesses.first().map_or_else(|| record.query_id.clone(), |access| access.product.clone())
}

fn proto(error: ProtoError) -> QueryError {
    QueryError::Execution { message: error.to_string() }
}
