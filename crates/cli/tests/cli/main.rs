//! The real program, run as people and scripts run it. All traffic stays on the loopback interface, every home is a
//! temporary folder, and every wait has an end.

mod argv;
mod control;
mod daemon;
mod demo;
mod dialogue;
mod exits;
mod help;
mod hints;
mod pairing;
mod qr;
mod serve;
mod support;
mod terminal;
mod zbar;
