//! `autolrs jobs plot` on jobs of the real server, run by the real client. The pictures stay under `target/tmp`.

use autolrs_client::{
    CosineOptions, JobSpec, PaperOptions, PolicySpec, ScanOptions, Session, SessionConfig, Status,
};
use autolrs_proto::v1::{GetJobRequest, Job, JobState, ListStagesRequest, Stage, trial::Outcome};
use autolrs_tests::{
    server::{Server, binary},
    sim::{Optimum, SimTrainer},
};
use roxmltree::{Document, Node};
use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

/// Units of the drawing in a pixel.
const UNIT: f64 = 4.0;

/// Trains a job for at most `most` steps.
async fn train(server: &Server, name: &str, total_steps: u64, policy: PolicySpec, most: usize) {
    train_on(server, name, total_steps, policy, most, Optimum::default()).await;
}

async fn train_on(
    server: &Server,
    name: &str,
    total_steps: u64,
    policy: PolicySpec,
    most: usize,
    surface: Optimum,
) {
    let (lr_min, lr_max, fallback_lr) = (Some(1e-3), Some(10.0), Some(0.05));
    let total_steps = Some(total_steps);
    let spec =
        JobSpec { total_steps, lr_min, lr_max, fallback_lr, policy: Some(policy), ..JobSpec::default() };
    let config =
        SessionConfig { server: server.url(), token: None, replay: true, ..SessionConfig::new(name, spec) };
    let session = Session::open(config).await.unwrap();
    let mut trainer = SimTrainer::new(surface);
    'job: loop {
        trainer.carry_out(&session.take_slot_ops(), session.snapshot().replay);
        if session.done().is_some() {
            break;
        }
        loop {
            if trainer.line.len() == most {
                break 'job;
            }
            let now = session.snapshot();
            if session.record(trainer.step(now.seq, now.lr)) == Status::Ended {
                break;
            }
        }
        session.next().await.unwrap();
    }
    session.close(Duration::from_secs(20)).await;
}

fn scan() -> PolicySpec {
    PolicySpec::Scan(ScanOptions::default())
}

/// `autolrs jobs plot NAME -o FILE ARGS`, without anything of the environment: no fonts are found by it.
async fn plot(server: &Server, name: &str, file: &str, args: &[&str]) -> (PathBuf, Output) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
    let mut command = Command::new(binary());
    command
        .env_clear()
        .args(["jobs", "plot", name, "--server", &server.url()])
        .args(args)
        .arg("-o")
        .arg(&path);
    let output =
        tokio::task::spawn_blocking(move || command.output().expect("the binary runs")).await.unwrap();
    (path, output)
}

async fn drawn(server: &Server, name: &str, file: &str, args: &[&str]) -> Vec<u8> {
    let (path, output) = plot(server, name, file, args).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", path.display()));
    std::fs::read(path).unwrap()
}

async fn refused(server: &Server, name: &str, args: &[&str]) -> (Option<i32>, String) {
    let (_, output) = plot(server, name, "refused.svg", args).await;
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn job(server: &Server, name: &str) -> (Job, Vec<Stage>) {
    let job = server.jobs().get_job(GetJobRequest { name: name.into() }).await.unwrap().into_inner().job;
    let request = ListStagesRequest { job: name.into(), page_size: 1000, ..ListStagesRequest::default() };
    (job.unwrap(), server.jobs().list_stages(request).await.unwrap().into_inner().stages)
}

/// The shapes of one panel.
struct Panel<'a> {
    nodes: Vec<Node<'a, 'a>>,
}

impl<'a> Panel<'a> {
    /// What lies between two heights, and between two places from the left.
    fn of(svg: &'a Document<'a>, heights: (f64, f64), places: (f64, f64)) -> Self {
        let inside = |node: &Node<'a, 'a>| {
            let (x, y) = place(node);
            (heights.0..heights.1).contains(&y) && (places.0..places.1).contains(&x)
        };
        Self { nodes: svg.root_element().children().filter(Node::is_element).filter(inside).collect() }
    }

    fn shapes(&self, tag: &str, attribute: &str, colour: &str) -> Vec<Node<'a, 'a>> {
        let is = |node: &&Node<'a, 'a>| {
            node.has_tag_name(tag)
                && node.attribute(attribute).is_some_and(|c| c.eq_ignore_ascii_case(colour))
        };
        self.nodes.iter().filter(is).copied().collect()
    }

    /// Tick labels of the left axis as (value, height), or of the lower one as (value, place).
    fn ticks(&self, left: bool) -> Vec<(f64, f64)> {
        let anchor = if left { "end" } else { "middle" };
        let texts = self
            .nodes
            .iter()
            .filter(|n| n.has_tag_name("text") && n.attribute("text-anchor") == Some(anchor));
        let value = |n: &Node<'a, 'a>| n.text()?.trim().replace(',', "").parse().ok();
        texts.filter_map(|n| Some((value(n)?, if left { place(n).1 } else { place(n).0 }))).collect()
    }
}

fn number(node: &Node<'_, '_>, attribute: &str) -> Option<f64> {
    node.attribute(attribute)?.parse().ok()
}

fn points(node: &Node<'_, '_>) -> Vec<(f64, f64)> {
    let pairs = node.attribute("points").unwrap_or_default().split_whitespace();
    pairs
        .map(|pair| pair.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
        .collect()
}

/// Where a shape is: its first point.
fn place(node: &Node<'_, '_>) -> (f64, f64) {
    let first = |names: [&str; 3]| names.iter().find_map(|name| number(node, name));
    points(node).first().copied().unwrap_or_else(|| {
        (first(["x", "cx", "x1"]).unwrap_or(-1.0), first(["y", "cy", "y1"]).unwrap_or(-1.0))
    })
}

/// Height of a title.
fn title(svg: &Document<'_>, begins: &str) -> f64 {
    let texts = svg.descendants().filter(|n| n.has_tag_name("text"));
    let found = texts.into_iter().find(|n| n.text().is_some_and(|text| text.trim().starts_with(begins)));
    place(&found.unwrap_or_else(|| panic!("no title {begins:?}"))).1
}

/// The place of a value on an axis, from two of its labels.
fn on_axis(ticks: &[(f64, f64)], value: f64, log: bool) -> f64 {
    let scale = |x: f64| if log { x.log10() } else { x };
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    assert!(first.0 != last.0, "two labels are needed: {ticks:?}");
    first.1 + (last.1 - first.1) * (scale(value) - scale(first.0)) / (scale(last.0) - scale(first.0))
}

#[track_caller]
fn near(is: f64, should_be: f64) {
    assert!((is - should_be).abs() <= 2.0 * UNIT, "{is} is not {should_be}");
}

#[tokio::test]
async fn a_scan_is_drawn_where_its_numbers_say() {
    let server = Server::start().await;
    train(&server, "scan", 3000, scan(), usize::MAX).await;
    let (job, stages) = job(&server, "scan").await;
    let svg = String::from_utf8(drawn(&server, "scan", "scan.svg", &[]).await).unwrap();
    let svg = Document::parse(&svg).unwrap();
    assert_eq!(svg.root_element().attribute("width"), Some("1000"));
    for text in svg.descendants().filter(|n| n.has_tag_name("text")) {
        assert_eq!(text.attribute("font-family"), Some("sans-serif"));
    }
    title(&svg, "scan: policy scan, finished");
    title(&svg, "3,000 of 3,000 steps: ");
    let [lr, loss, search] = ["Learning rate", "Loss over", "What was measured"].map(|t| title(&svg, t));
    let middle = 500.0 * UNIT;

    // The LR: higher is up, later is to the right, and the commit is at its LR.
    let panel = Panel::of(&svg, (lr + 30.0 * UNIT, loss - 10.0 * UNIT), (0.0, 1000.0 * UNIT));
    let (left, below) = (panel.ticks(true), panel.ticks(false));
    assert!(on_axis(&left, 1.0, true) < on_axis(&left, 0.1, true));
    assert!(on_axis(&below, 2000.0, false) > on_axis(&below, 100.0, false));
    let dots = panel.shapes("circle", "fill", "#009E73");
    assert_eq!(dots.len(), 1, "the LR was committed once");
    near(place(&dots[0]).1, on_axis(&left, job.commits[0].lr, true));
    near(place(&dots[0]).0, on_axis(&below, 299.0, false));
    let line = points(&panel.shapes("polyline", "stroke", "#0072B2")[0]);
    let steps = job.steps.unwrap();
    let (first, last) = (line[0], line[line.len() - 1]);
    near(first.0, on_axis(&below, 0.0, false));
    near(last.0, on_axis(&below, steps.committed as f64 - 1.0, false));
    let highest = line.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    near(highest, on_axis(&left, job.commits[0].lr, true));
    assert!(first.1 > highest && last.1 > highest, "it warms up and cools down");

    // The losses go down.
    let panel = Panel::of(&svg, (loss + 30.0 * UNIT, search - 80.0 * UNIT), (0.0, 1000.0 * UNIT));
    let line = points(&panel.shapes("polyline", "stroke", "#0072B2")[0]);
    assert!(line[0].1 < line[line.len() - 1].1 && line.len() > 50);

    // The search: a mark per trial at its score, the curve, the LR taken.
    let stage = &stages[0];
    let panel = Panel::of(&svg, (search + 28.0 * UNIT, f64::INFINITY), (0.0, middle));
    let (left, below) = (panel.ticks(true), panel.ticks(false));
    assert!(on_axis(&below, 1.0, true) > on_axis(&below, 0.1, true));
    let taken = panel.shapes("polyline", "stroke", "#009E73");
    near(place(&taken[0]).0, on_axis(&below, stage.lr.unwrap(), true));
    let curve = points(&panel.shapes("polyline", "stroke", "#0072B2")[0]);
    let least = stage.curve.iter().min_by(|a, b| a.mean.total_cmp(&b.mean)).unwrap();
    let lowest = curve.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let start = &stage.curve[0];
    for (point, curve) in [(lowest, least), (&curve[0], start)] {
        near(point.0, on_axis(&below, 10f64.powf(curve.log10_lr), true));
        near(point.1, on_axis(&left, curve.mean, false));
    }
    let completed = stage.trials.iter().filter(|t| t.outcome() == Outcome::Completed);
    let best = completed.min_by(|a, b| a.score.unwrap().total_cmp(&b.score.unwrap())).unwrap();
    let dots: Vec<_> = panel.nodes.iter().filter(|n| n.has_tag_name("circle")).map(place).collect();
    let (x, y) = (on_axis(&below, best.lr, true), on_axis(&left, best.score.unwrap(), false));
    assert!(
        dots.iter().any(|dot| (dot.0 - x).abs() < 8.0 && (dot.1 - y).abs() < 8.0),
        "{dots:?} has no {x}, {y}"
    );
    let stopped = stage.trials.iter().filter(|t| t.outcome() == Outcome::Stopped).count();
    let squares = |n: &&Node<'_, '_>| n.has_tag_name("polyline") && points(n).len() == 5;
    assert_eq!((panel.nodes.iter().filter(squares).count(), stopped), (stopped, 1));

    // Every trial has its losses.
    let panel = Panel::of(&svg, (search + 28.0 * UNIT, f64::INFINITY), (middle, 1000.0 * UNIT));
    let lines = panel.nodes.iter().filter(|n| n.has_tag_name("polyline") && points(n).len() > 4).count();
    assert!(lines >= stage.trials.len(), "{lines} lines");
}

#[tokio::test]
async fn every_policy_and_a_running_job_have_a_picture() {
    let server = Server::start().await;
    let paper = PaperOptions { tau: Some(200), tau_max: Some(400), ..PaperOptions::default() };
    train(&server, "paper", 4000, PolicySpec::Paper(paper), usize::MAX).await;
    train(&server, "cosine", 1000, PolicySpec::Cosine(CosineOptions::default()), usize::MAX).await;
    train(&server, "running", 3000, scan(), 1500).await;
    train(&server, "searching", 3000, scan(), 70).await;
    let titles = async |name: &str, args: &[&str]| {
        let svg = String::from_utf8(drawn(&server, name, &format!("{name}.svg"), args).await).unwrap();
        Document::parse(&svg)
            .unwrap()
            .descendants()
            .filter(|n| n.has_tag_name("text"))
            .filter_map(|n| n.text().map(str::to_owned))
            .collect::<String>()
    };
    let paper = titles("paper", &[]).await;
    assert!(
        paper.contains("Search of stage 0: LR") && paper.contains("forecast of the stage's end"),
        "{paper}"
    );
    let one = titles("paper", &["--stage", "1"]).await;
    assert!(one.contains("Search of stage 1: LR") && !one.contains("Search of stage 0"), "{one}");
    assert!(one.contains("more searches are not drawn"));
    let breaks = Optimum { breaks_at: Some(1500), ..Optimum::default() };
    train_on(&server, "broken", 3000, scan(), usize::MAX, breaks).await;
    let broken = titles("broken", &[]).await;
    assert!(
        broken.contains("broken: policy scan, failed") && broken.contains("rolled back by a guard"),
        "{broken}"
    );
    let cosine = titles("cosine", &[]).await;
    assert!(cosine.contains("policy cosine, finished") && !cosine.contains("Search"), "{cosine}");
    let running = titles("running", &[]).await;
    assert!(
        running.contains("1,500 of 3,000 steps") && running.contains("Search of stage 0: LR"),
        "{running}"
    );
    assert!(titles("searching", &[]).await.contains("Search of stage 0: still open"));
    let (code, said) = refused(&server, "cosine", &["--stage", "0"]).await;
    assert_eq!((code, said.as_str()), (Some(1), "autolrs: job cosine has no search in stage 0\n"));
    let (code, said) = refused(&server, "nobody", &[]).await;
    assert!(code == Some(1) && said.contains("[JOB_NOT_FOUND]"), "{said}");
}

#[tokio::test]
async fn a_png_shows_curves_and_text_on_a_machine_without_fonts() {
    let server = Server::start().await;
    train(&server, "scan", 3000, scan(), usize::MAX).await;
    let bytes = drawn(&server, "scan", "scan.png", &[]).await;
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
    let mut image = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut image).unwrap();
    assert_eq!((info.width, info.color_type), (2000, png::ColorType::Rgba));
    let dark = |rows: std::ops::Range<usize>| {
        let row = 4 * info.width as usize;
        image[rows.start * row..rows.end * row].chunks(4).filter(|p| p[..3].iter().all(|&c| c < 100)).count()
    };
    // The headline is text alone.
    assert!(dark(0..70) > 1000, "{}", dark(0..70));
    let coloured = image.chunks(4).filter(|p| p[..3].iter().any(|&c| c < 200)).count();
    assert!(coloured > 20_000, "{coloured}");
}

#[tokio::test]
async fn a_job_without_steps_and_a_wrong_file_name_are_refused() {
    let server = Server::start().await;
    train(&server, "new", 3000, scan(), 0).await;
    let (code, said) = refused(&server, "new", &[]).await;
    assert_eq!(
        (code, said.as_str()),
        (Some(1), "autolrs: job new has nothing to draw yet: no step was reported\n")
    );
    let (_, output) = plot(&server, "new", "new.gif", &[]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("must end in .svg or .png"));
    assert_eq!(job(&server, "new").await.0.state(), JobState::Searching);
}
