//! Settings of topics and of the bus.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Altered;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as Changed;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Explained};
use crate::broker::NODE_ID;
use crate::topics::Topic;
use crate::topics::settings::{Kind, Overrides, SETTINGS, SettingError, find};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

// Where a value comes from.
const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

/// All settings of a topic with their values.
pub(crate) fn values(topic: &Topic) -> Vec<DescribeConfigsResourceResult> {
    let overrides = topic.overrides();
    let value = |setting: &crate::topics::settings::Setting| {
        let own = overrides.get(setting.name);
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(setting.name))
            .with_value(Some(StrBytes::from_string(own.cloned().unwrap_or_else(|| setting.default.to_owned()))))
            .with_config_source(if own.is_some() { OF_TOPIC } else { DEFAULT })
            .with_config_type(kind_code(setting.kind))
    };
    SETTINGS.iter().map(value).collect()
}

fn kind_code(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text | Kind::Choice(_) => 2,
        Kind::Number(_) | Kind::Only(_) => 5,
        Kind::Ratio => 6,
        Kind::Set(_) => 7,
    }
}

fn broker_values(context: &Context) -> Vec<DescribeConfigsResourceResult> {
    let config = &context.broker.config;
    let values = [
        ("broker.id", NODE_ID.to_string()),
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("num.partitions", config.default_partitions.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("max.connections", config.max_connections.to_string()),
        ("socket.request.max.bytes", config.max_request_bytes.to_string()),
        ("log.dirs", config.data.display().to_string()),
    ];
    let value = |(name, value): (&'static str, String)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_read_only(true)
            .with_config_source(OF_BROKER)
            .with_config_type(2)
    };
    values.into_iter().map(value).collect()
}

pub(crate) fn describe_configs(context: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|wanted| {
        let found = match wanted.resource_type {
            TOPIC => topic(context, &wanted.resource_name).map(|topic| values(&topic)),
            BROKER if wanted.resource_name.parse() == Ok(NODE_ID) || wanted.resource_name.is_empty() => {
                Ok(broker_values(context))
            }
            _ => Err(Explained::new(ResponseError::InvalidRequest, "the local bus has topics and broker 1")),
        };
        let (error, message) = Explained::parts(&found);
        let is_wanted = |name: &StrBytes| wanted.configuration_keys.as_ref().is_none_or(|keys| keys.contains(name));
        let configs = found.unwrap_or_default().into_iter().filter(|value| is_wanted(&value.name)).collect();
        DescribeConfigsResult::default()
            .with_error_code(error)
            .with_error_message(message)
            .with_resource_type(wanted.resource_type)
            .with_resource_name(wanted.resource_name)
            .with_configs(configs)
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn topic(context: &Context, name: &str) -> Result<std::sync::Arc<Topic>, Explained> {
    let unknown = || Explained::new(ResponseError::UnknownTopicOrPartition, "unknown topic");
    context.broker.topics.get(name).ok_or_else(unknown)
}

fn change(
    context: &Context,
    resource_type: i8,
    name: &str,
    dry_run: bool,
    change: impl FnOnce(&mut Overrides) -> Result<(), SettingError>,
) -> Result<(), Explained> {
    if resource_type != TOPIC {
        return Err(Explained::new(ResponseError::InvalidRequest, "only topics can be configured in a running bus"));
    }
    context.broker.topics.configure(&*topic(context, name)?, dry_run, change)?;
    context.broker.housekeeping.notify_one();
    Ok(())
}

/// The older request: what is not named returns to its default.
pub(crate) fn alter_configs(context: &Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let responses = request.resources.into_iter().map(|wanted| {
        let given = wanted.configs.into_iter();
        let all = given.filter_map(|config| Some((config.name.to_string(), config.value?.to_string()))).collect();
        let changed =
            change(context, wanted.resource_type, &wanted.resource_name, request.validate_only, |overrides| {
                *overrides = all;
                Ok(())
            });
        let (error, message) = Explained::parts(&changed);
        Altered::default()
            .with_error_code(error)
            .with_error_message(message)
            .with_resource_type(wanted.resource_type)
            .with_resource_name(wanted.resource_name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

pub(crate) fn incremental_alter_configs(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.into_iter().map(|wanted| {
        let changed =
            change(context, wanted.resource_type, &wanted.resource_name, request.validate_only, |overrides| {
                wanted.configs.iter().try_for_each(|config| apply(overrides, config))
            });
        let (error, message) = Explained::parts(&changed);
        Changed::default()
            .with_error_code(error)
            .with_error_message(message)
            .with_resource_type(wanted.resource_type)
            .with_resource_name(wanted.resource_name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn apply(overrides: &mut Overrides, config: &AlterableConfig) -> Result<(), SettingError> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let setting = find(&config.name)?;
    let value = config.value.as_deref().unwrap_or_default();
    let refuse = |wanted: &str| {
        let name = setting.name.to_owned();
        let value = value.to_owned();
        Err(SettingError::Value { name, value, wanted: wanted.to_owned() })
    };
    let current = overrides.get(setting.name).map_or(setting.default, String::as_str);
    let items: Vec<&str> = current.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    let is_list = matches!(setting.kind, Kind::Set(_));
    let new = match config.config_operation {
        DELETE => {
            overrides.remove(setting.name);
            return Ok(());
        }
        SET => value.to_owned(),
        APPEND | SUBTRACT if !is_list => return refuse("only lists can be appended to and subtracted from"),
        APPEND if items.contains(&value) => current.to_owned(),
        APPEND => [items.as_slice(), &[value]].concat().join(","),
        SUBTRACT => items.into_iter().filter(|item| *item != value).collect::<Vec<_>>().join(","),
        _ => return refuse("an operation the bus knows: set, delete, append or subtract"),
    };
    overrides.insert(setting.name.to_owned(), new);
    Ok(())
}
