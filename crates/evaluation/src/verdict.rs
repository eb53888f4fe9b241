use crate::{MetricSummary, Outcome, Summary};

/// Three sentences: the reward; what a sample is worth; the judges outside the reward.
pub fn verdict(summary: &Summary) -> Vec<String> {
    vec![reward(summary), worth(summary), judges(summary)]
}

fn reward(summary: &Summary) -> String {
    let reward = &summary.reward;
    let word = match reward.outcome {
        Outcome::Better => "Better",
        Outcome::Worse => "Worse",
        Outcome::Unclear => "No clear difference",
    };
    let interval = match (reward.delta.low, reward.delta.high) {
        (Some(low), Some(high)) => format!("95 % interval {low:+.3} to {high:+.3}"),
        _ => "no interval from a single photograph".into(),
    };
    format!(
        "{word}: mean reward {:.3} → {:.3} ({:+.3}, {interval}) on {} of {} with {} each.",
        reward.reference.mean,
        reward.tuned.mean,
        reward.delta.mean,
        count(reward.images, "picture"),
        count(summary.photographs, "photograph"),
        count(summary.seeds, "seed"),
    )
}

fn worth(summary: &Summary) -> String {
    let reward = &summary.reward;
    let wins = format!(
        "the tuned model wins {:.0} % of the comparisons with the same seed",
        100.0 * reward.win_rate
    );
    match reward.worth {
        0 => format!("One tuned sample is worth less than one of the reference; {wins}."),
        1 => format!("One tuned sample is worth one of the reference; {wins}."),
        m if m == summary.seeds => {
            format!("One tuned sample is worth the best of {m} of the reference or more; {wins}.")
        }
        m => format!("One tuned sample is worth the best of {m} of the reference; {wins}."),
    }
}

fn judges(summary: &Summary) -> String {
    let judges: Vec<(&String, &MetricSummary)> =
        summary.metrics.iter().filter(|(_, metric)| !metric.in_reward).collect();
    let with = |outcome: Outcome| {
        let names =
            judges.iter().filter(|(_, m)| m.outcome == outcome).map(|(name, _)| name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let parts: Vec<String> = [
        ("better", with(Outcome::Better)),
        ("worse", with(Outcome::Worse)),
        ("unclear", with(Outcome::Unclear)),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(word, names)| format!("{word} {names}"))
    .collect();
    if parts.is_empty() {
        return "No metric outside the reward was scored; score some as judges.".into();
    }
    format!("Metrics outside the reward: {}.", parts.join("; "))
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
